"""Stateless nodes that read Kafka by offset and serve it as server-sent events.

Offsets become event ids, so that a client resumes on any node. A connection is a cursor into the
shared log and has no queue of its own.
"""
