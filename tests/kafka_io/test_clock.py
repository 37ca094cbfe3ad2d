import time

from kafka_io.clock import now_us


def test_the_clock_counts_microseconds_since_1970() -> None:
    before = time.time()
    assert before - 1e-3 <= now_us() / 1e6 <= time.time() + 1e-3
