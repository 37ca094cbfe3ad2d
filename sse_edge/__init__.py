"""Who is told: stateless nodes that turn Kafka's offsets into event ids.

The one idea: a connection is a cursor into a shared log, and has no queue.
"""
