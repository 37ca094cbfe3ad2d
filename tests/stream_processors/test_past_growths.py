"""A rebuild without growths repeats none; `tests/journeys/test_rebuild.py` has another."""

import pytest

from kafka_io.reader import OffsetRange
from stream_processors.growths import Growths
from stream_processors.metrics import WorkerMetrics
from stream_processors.past_growths import has_reached, repeat_growths
from stream_processors.settings import ProcessorSettings


async def test_without_growths_there_is_nothing_to_repeat() -> None:
    settings = ProcessorSettings(bootstrap_servers="nowhere:1", rebuild_version="v2")
    await repeat_growths(settings, (), Growths(), WorkerMetrics())


@pytest.mark.parametrize(
    ("offsets", "reached"),
    [
        (OffsetRange(0, 50, None), False),
        (OffsetRange(0, 50, 19), False),
        (OffsetRange(0, 50, 20), True),
        (OffsetRange(0, 15, 15), True),  # the log has lost its end
        (OffsetRange(20, 50, None), True),  # all of it is deleted
        (OffsetRange(19, 50, None), False),
        (OffsetRange(0, 0, None), True),
    ],
)
def test_a_growth_is_reached_when_all_before_it_is_processed(
    offsets: OffsetRange, *, reached: bool
) -> None:
    assert has_reached(offsets, 20) is reached
