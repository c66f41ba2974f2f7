"""Everything on one machine: a real Kafka broker, a real Valkey server, and newsquake's processes under one supervisor."""
