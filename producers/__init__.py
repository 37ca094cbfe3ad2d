"""Producers: the reporter API, and the workers of the domain.

from producers import get_sse_broadcaster

await get_sse_broadcaster().send_training_progress("run-7", 40.0, "running", "epoch 4 of 10")
"""

from kafka_io.errors import BufferFull, InvalidReport, ProducerError, RecordRefused, Unsent
from kafka_io.settings import ProducerSettings
from producers.broadcaster import BlockingBroadcaster, SSEBroadcaster, get_sse_broadcaster

__all__ = [
    "BlockingBroadcaster",
    "BufferFull",
    "InvalidReport",
    "ProducerError",
    "ProducerSettings",
    "RecordRefused",
    "SSEBroadcaster",
    "Unsent",
    "get_sse_broadcaster",
]
