from collections import Counter
from collections.abc import Callable

from hypothesis import given, strategies as st

from schemas.events import WindowTally
from stream_processors.tumbling import Partition, Tallying, Totalling

SECOND = 1_000_000
HERE = Partition("risk.alerts", 0)


def always(_: Partition, __: int) -> bool:
    return True


def never(_: Partition, __: int) -> bool:
    return False


def counts_of(closed: list[tuple[WindowTally, list[str]]]) -> list[tuple[int, dict[str, int]]]:
    return [(tally.window_start_us // SECOND, dict(tally.counts)) for tally, _ in closed]


def test_a_window_closes_when_its_partition_has_moved_on() -> None:
    tallying: Tallying[str] = Tallying(SECOND)
    tallying.add(HERE, 0, 100, "alerts", "a")
    tallying.add(HERE, 1, 999_999, "alerts", "b")
    assert tallying.close(10 * SECOND, never) == []
    tallying.add(HERE, 2, SECOND, "alerts", "c")
    [(tally, held)] = tallying.close(0, never)
    assert tally.counts == {"alerts": 2}
    assert tally.last_offset == 1
    assert held == ["a", "b"]


def test_a_quiet_partition_closes_by_the_clock_once_all_of_it_was_read() -> None:
    tallying: Tallying[str] = Tallying(SECOND)
    tallying.add(HERE, 0, 100, "alerts", "a")
    assert tallying.close(SECOND - 1, always) == []
    assert tallying.close(SECOND, never) == []
    assert counts_of(tallying.close(SECOND, always)) == [(0, {"alerts": 1})]
    assert tallying.close(SECOND, always) == []


def test_timestamps_that_step_back_do_not_open_a_closed_window() -> None:
    tallying: Tallying[str] = Tallying(SECOND)
    tallying.add(HERE, 0, 5 * SECOND, "alerts", "a")
    tallying.add(HERE, 1, 3 * SECOND, "alerts", "b")
    assert counts_of(tallying.close(9 * SECOND, always)) == [(5, {"alerts": 2})]


records = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 10 * SECOND), st.sampled_from(["x", "y"])),
    max_size=80,
)


def run(
    many: list[tuple[int, int, str]], stops: list[bool], upto: Callable[[int], bool]
) -> dict[int, Counter[str]]:
    """Tally and total a log, closing now and then; the last total of each window."""
    tallying: Tallying[int] = Tallying(SECOND)
    totalling: Totalling[int] = Totalling(kept=1_000)
    totals: dict[int, Counter[str]] = {}
    offsets: Counter[int] = Counter()

    def close() -> None:
        for tally, _ in tallying.close(0, never):
            totalling.add(tally, 0)
        for update, _ in totalling.close(100 * SECOND):
            assert update.window_start_us is not None
            totals[update.window_start_us] = Counter(
                {name: int(count) for name, count in update.values.items()}
            )

    for (number, at_us, name), stop in zip(many, stops, strict=False):
        tallying.add(Partition("t", number), offsets[number], at_us, name, 0)
        offsets[number] += 1
        if stop and upto(number):
            close()
    for tally, _ in tallying.close(100 * SECOND, always):
        totalling.add(tally, 0)
    close()
    return totals


@given(records, st.lists(st.booleans(), min_size=80, max_size=80))
def test_every_record_is_counted_once_whenever_windows_close(
    many: list[tuple[int, int, str]], stops: list[bool]
) -> None:
    many = sorted(many, key=lambda one: one[1])
    expected: dict[int, Counter[str]] = {}
    for _, at_us, name in many:
        expected.setdefault(at_us - at_us % SECOND, Counter())[name] += 1
    assert run(many, stops, lambda _: True) == expected


def test_a_tally_that_was_written_twice_counts_once() -> None:
    totalling: Totalling[str] = Totalling()
    tally = WindowTally(
        window_start_us=0,
        window_us=SECOND,
        counts={"x": 3},
        source_topic="t",
        source_partition=0,
        last_offset=9,
    )
    totalling.add(tally, "first")
    totalling.add(tally, "second")
    [(update, held)] = totalling.close(SECOND)
    assert update.values == {"x": 3}
    assert held == ["first", "second"]


def test_tallies_of_several_rounds_of_a_partition_add_up() -> None:
    totalling: Totalling[str] = Totalling()
    for first_offset in (0, 10, 10, 20):
        tally = WindowTally(
            window_start_us=0,
            window_us=SECOND,
            counts={"x": 3},
            source_topic="t",
            source_partition=0,
            last_offset=first_offset + 9,
            first_offset=first_offset,
        )
        totalling.add(tally, "held")
    [(update, _)] = totalling.close(SECOND)
    assert update.values == {"x": 9}


def test_a_late_tally_changes_its_windows_total_once_more() -> None:
    totalling: Totalling[str] = Totalling()

    def tally(partition: int) -> WindowTally:
        return WindowTally(
            window_start_us=0,
            window_us=SECOND,
            counts={"x": 1},
            source_topic="t",
            source_partition=partition,
            last_offset=0,
        )

    totalling.add(tally(0), "a")
    [(first, _)] = totalling.close(SECOND)
    totalling.add(tally(1), "b")
    [(second, _)] = totalling.close(SECOND)
    assert first.window_id == second.window_id
    assert (first.values, second.values) == ({"x": 1}, {"x": 2})


def test_nothing_is_kept_of_partitions_that_were_taken_away() -> None:
    tallying: Tallying[str] = Tallying(SECOND)
    tallying.add(HERE, 0, 0, "x", "a")
    tallying.forget()
    assert tallying.close(9 * SECOND, always) == []
