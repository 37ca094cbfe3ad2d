"""Who says it: what happens in the domain, as events.

from producers import get_sse_broadcaster

await get_sse_broadcaster().send_training_progress("run-7", 40.0, "running", "epoch 4 of 10")
"""

from producers.broadcaster import BlockingBroadcaster, SSEBroadcaster, get_sse_broadcaster
from producers.errors import BufferFull, InvalidReport, ProducerError, Unsent
from producers.settings import ProducerSettings

__all__ = [
    "BlockingBroadcaster",
    "BufferFull",
    "InvalidReport",
    "ProducerError",
    "ProducerSettings",
    "SSEBroadcaster",
    "Unsent",
    "get_sse_broadcaster",
]
