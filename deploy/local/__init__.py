"""Everything on one machine: a real Kafka broker, a real Valkey server, newsquake's processes, one supervisor."""
