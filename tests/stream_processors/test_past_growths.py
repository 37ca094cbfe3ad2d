"""A rebuild without growths repeats none; `tests/journeys/test_rebuild.py` has another."""

from stream_processors.growths import Growths
from stream_processors.metrics import WorkerMetrics
from stream_processors.past_growths import repeat_growths
from stream_processors.settings import ProcessorSettings


async def test_without_growths_there_is_nothing_to_repeat() -> None:
    settings = ProcessorSettings(bootstrap_servers="nowhere:1", rebuild_version="v2")
    await repeat_growths(settings, (), Growths(), WorkerMetrics())
