"""Tallies: the events of a batch, by partition, tenant and window."""

from collections import Counter

from hypothesis import given, strategies as st

from schemas.codec import decode, encode
from schemas.topics import TopicPartition
from stream_processors.windowing.tallies import WindowCounter, gauge_tally, highest

SECOND = 1_000_000
SOURCE = TopicPartition("risk.alerts", 3)

times = st.lists(st.integers(0, 20 * SECOND), max_size=50)


@given(times, st.integers(1, 5 * SECOND))
def test_each_event_is_in_the_tally_of_its_window(recorded: list[int], window_us: int) -> None:
    counter = WindowCounter(window_us)
    for offset, time_us in enumerate(recorded):
        counter.add(SOURCE, "acme", offset, time_us, "seen")
    tallies = list(counter.tallies())
    assert {tally.window_start_us: tally.counts["seen"] for tally in tallies} == Counter(
        time_us - time_us % window_us for time_us in recorded
    )
    for tally in tallies:
        offsets = [
            offset
            for offset, time_us in enumerate(recorded)
            if time_us - time_us % window_us == tally.window_start_us
        ]
        assert (tally.first_offset, tally.last_offset) == (offsets[0], offsets[-1])
        assert (tally.source_topic, tally.source_partition, tally.tenant) == (*SOURCE, "acme")
        assert tally.newest_us == max(recorded)
        assert decode(encode(tally)) == tally


def test_results_are_counted_in_the_newest_window_if_there_is_one() -> None:
    counter = WindowCounter(SECOND)
    counter.add_to_newest(SOURCE, None, "risk_measures", 2)
    assert list(counter.tallies()) == []
    counter.add(SOURCE, None, 0, 5 * SECOND, "returns")
    counter.add(SOURCE, None, 1, 4 * SECOND, "returns")
    counter.add_to_newest(SOURCE, None, "risk_measures", 2)
    counts = {tally.window_start_us: tally.counts for tally in counter.tallies()}
    assert counts == {
        5 * SECOND: {"returns": 1, "risk_measures": 2},
        4 * SECOND: {"returns": 1},
    }
    counter.clear()
    assert list(counter.tallies()) == []


def test_tenants_of_one_partition_have_tallies_of_their_own() -> None:
    counter = WindowCounter(SECOND)
    for offset, tenant in enumerate(("acme", "blue", None)):
        counter.add(SOURCE, tenant, offset, 0, "seen")
    tallies = list(counter.tallies())
    assert [(tally.tenant, tally.first_offset) for tally in tallies] == [
        ("acme", 0),
        ("blue", 1),
        (None, 2),
    ]


def test_a_gauge_tally_keeps_the_ten_highest_utilisations() -> None:
    utilisations = {f"p{number}": number / 10 for number in range(15)}
    tally = gauge_tally(SOURCE, None, {"portfolios": 15}, utilisations)
    assert (tally.counts, tally.gauges) == ({}, {"portfolios": 15})
    assert list(tally.worst) == [f"p{number}" for number in range(14, 4, -1)]
    assert highest({}) == {}
