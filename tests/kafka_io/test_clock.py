import time

import pytest

from kafka_io.clock import EARLIEST_MS, append_time_ms, now_us


def test_the_clock_counts_microseconds_since_1970() -> None:
    before = time.time()
    assert before - 1e-3 <= now_us() / 1e6 <= time.time() + 1e-3


@pytest.mark.parametrize(
    ("timestamp_ms", "appended_ms"),
    [
        (None, 0),
        (-(1 << 63), 0),
        (-1, 0),
        (0, 0),
        (1, 0),
        (1_796_000_000, 0),  # seconds
        (EARLIEST_MS - 1, 0),
        (EARLIEST_MS, EARLIEST_MS),
        (1_796_000_000_000, 1_796_000_000_000),
        (1_796_000_000_000_000, 0),  # microseconds
        ((1 << 63) - 1, 0),
    ],
)
def test_a_time_that_no_broker_has_given_is_unknown(
    timestamp_ms: int | None, appended_ms: int
) -> None:
    assert append_time_ms(timestamp_ms, 1_900_000_000_000) == appended_ms
