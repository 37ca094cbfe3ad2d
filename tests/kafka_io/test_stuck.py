import pytest

from kafka_io.stuck import LOGGED_FROM_S, FetchedEnds, StuckPartitions


def seen(stuck: StuckPartitions, at_s: float, **partitions: tuple[int, int]) -> dict[str, float]:
    """Let each topic have a stable and a last offset at a time; return the topics that stand."""
    stuck.see((topic, 0, FetchedEnds(*ends, at_s)) for topic, ends in partitions.items())
    return {topic: age_s for (topic, _), age_s in stuck.ages_s.items()}


def test_a_stable_offset_that_stays_below_the_end_ages() -> None:
    stuck = StuckPartitions()
    assert seen(stuck, 100, t=(5, 7), u=(3, 3)) == {}
    assert seen(stuck, 104, t=(5, 9), u=(3, 3)) == {"t": 4}
    assert seen(stuck, 105, t=(5, 9)) == {"t": 5}
    assert seen(stuck, 106, t=(9, 9)) == {}
    assert seen(stuck, 107, t=(9, 10)) == {}, "another transaction begins with no age"


def test_one_transaction_after_the_other_holds_nothing_back() -> None:
    """As processors write them, many a second."""
    stuck = StuckPartitions()
    for at in range(100):
        assert seen(stuck, at, t=(at, at + 3)) == {}


def test_what_was_fetched_long_ago_does_not_age() -> None:
    """A partition without room for records is not fetched."""
    stuck = StuckPartitions()
    for _ in range(100):
        assert seen(stuck, 100, t=(5, 7)) == {}


def test_a_partition_that_is_read_no_more_is_forgotten() -> None:
    stuck = StuckPartitions()
    seen(stuck, 100, t=(5, 7))
    assert seen(stuck, 200) == {}
    assert seen(stuck, 300, t=(5, 7)) == {}


def test_it_is_logged_once_a_minute_for_all_partitions(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stuck = StuckPartitions()
    for at in range(200):
        seen(stuck, at, t=(5, 7), u=(1, 9 + at))
    assert len(caplog.messages) == 200 // 60 + 1
    first = f"t/0 for the longest time: {LOGGED_FROM_S:.0f} s, from offset 5 on"
    assert (
        f"2 partition(s) are held back by an open transaction of a producer, {first}"
        in (caplog.messages[0])
    )
    caplog.clear()
    seen(stuck, 201, t=(7, 7), u=(9, 9))
    assert sorted(caplog.messages) == [
        "t/0 goes on: the transaction has ended",
        "u/0 goes on: the transaction has ended",
    ]
