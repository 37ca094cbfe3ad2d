"""Tapewire: event streams on Kafka that clients can resume on any node.

In a wheel, this package holds the whole system: `tapewire.producers`, `tapewire.sse_edge` and
so on. In a checkout, these folders are at its top, and this package is the entry point only.
"""

__version__ = "0.1.0"
