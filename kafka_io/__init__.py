"""Kafka clients of this system: the publisher, the reader, and groups of workers."""
