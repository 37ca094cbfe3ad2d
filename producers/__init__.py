"""Producers: the reporter API, and the workers of the domain.

from producers import get_sse_broadcaster

await get_sse_broadcaster().send_training_progress("run-7", 40.0, "running", "epoch 4 of 10")
"""

from typing import TYPE_CHECKING

from kafka_io.errors import BufferFull, InvalidReport, ProducerError, RecordRefused, Unsent
from kafka_io.settings import ProducerSettings

if TYPE_CHECKING:
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

_REPORTERS = ("BlockingBroadcaster", "SSEBroadcaster", "get_sse_broadcaster")


def __getattr__(name: str) -> object:
    """Import the reporter API when it is used: a process of agents has no client of Kafka."""
    if name not in _REPORTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from producers import broadcaster  # noqa: PLC0415  # see above

    return getattr(broadcaster, name)
