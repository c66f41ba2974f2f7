"""Sources, documents, text cleaning, and publishing to Kafka."""
