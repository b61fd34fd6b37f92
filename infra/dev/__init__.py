"""A real Kafka and a real Postgres from Python packages alone, for development, tests and benchmarks."""
