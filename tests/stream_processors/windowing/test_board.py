"""Tests of counting in windows: totals, watermarks, what is late, and what is told twice."""

from collections import Counter
from collections.abc import Iterable

from hypothesis import given, strategies as st

from schemas.codec import decode, encode
from schemas.events import BoardState, DashboardUpdate, WindowTally
from stream_processors.messages import TopicPartition
from stream_processors.windowing.board import Board
from stream_processors.windowing.tallies import WindowCounter, gauge_tally

SECOND = 1_000_000
HERE, THERE = TopicPartition("risk.alerts", 0), TopicPartition("training.events", 1)
WINDOWS = (SECOND, 10 * SECOND, 60 * SECOND)


def board(lateness_s: float = 5, state: BoardState | None = None) -> Board:
    return Board(state or BoardState(board="", partition=0), WINDOWS, int(lateness_s * SECOND))


def tally(where: TopicPartition, *records: tuple[int, float]) -> list[WindowTally]:
    """Of records, by offset and second."""
    tallying = WindowCounter(SECOND)
    for offset, at_s in records:
        tallying.add(where, None, offset, int(at_s * SECOND), "seen")
    return list(tallying.tallies())


def take(to: Board, tallies: Iterable[WindowTally], number: int, now_s: float) -> int:
    """Have a board take tallies that stand from an offset on; the next offset."""
    some = list(tallies)
    for offset, one in enumerate(some, start=number):
        to.add(one, offset, int(now_s * SECOND))
    return number + len(some)


def told(updates: Iterable[DashboardUpdate], length_s: int = 1) -> dict[int, dict[str, float]]:
    """By the second that a window begins in, the last of each."""
    return {
        update.window_start_us // SECOND: dict(update.values)
        for update in updates
        if update.window_start_us is not None
        and update.event_time_us - update.window_start_us == length_s * SECOND
    }


def test_a_window_is_told_when_all_sources_have_passed_it() -> None:
    one = board()
    number = take(one, tally(HERE, (0, 0.1), (1, 0.9)), 0, now_s=100)
    number = take(one, tally(THERE, (0, 0.5)), number, now_s=100)
    assert one.advance(100 * SECOND) == []
    number = take(one, tally(HERE, (2, 1.2)), number, now_s=100)
    assert one.advance(100 * SECOND) == []
    take(one, tally(THERE, (1, 1.7)), number, now_s=100)
    assert told(one.advance(100 * SECOND)) == {0: {"seen": 3}}


def test_in_silence_time_goes_on_at_the_clocks_pace() -> None:
    one = board()
    take(one, tally(HERE, (0, 0.5)), 0, now_s=100)
    assert one.advance(int(101.4 * SECOND)) == []
    assert told(one.advance(int(101.6 * SECOND))) == {0: {"seen": 1}}
    assert one.advance(105 * SECOND) == []
    assert told(one.advance(int(110.6 * SECOND)), 10) == {0: {"seen": 1}}
    assert told(one.advance(200 * SECOND), 60) == {0: {"seen": 1}}


def test_a_tally_that_comes_later_is_told_again_under_the_same_id() -> None:
    one = board(lateness_s=2)
    number = take(one, tally(HERE, (0, 0.5), (1, 1.5)), 0, now_s=100)
    [before] = one.advance(100 * SECOND)
    take(one, tally(HERE, (2, 0.7)), number, now_s=100)
    [after] = one.advance(100 * SECOND)
    assert before.window_id == after.window_id
    assert (before.values["seen"], after.values["seen"]) == (1, 2)


def test_what_comes_after_the_lateness_is_counted_as_late() -> None:
    one = board(lateness_s=2)
    number = take(one, tally(HERE, (0, 0.5), (1, 3.5)), 0, now_s=100)
    assert set(told(one.advance(100 * SECOND))) == {0}
    number = take(one, tally(HERE, (2, 0.6), (3, 0.7)), number, now_s=100)
    take(one, tally(HERE, (4, 4.1)), number, now_s=100)
    assert told(one.advance(100 * SECOND)) == {3: {"seen": 1, "late": 2}}


def test_how_things_stand_is_told_with_the_next_window_and_holds_nobody_up() -> None:
    one = board()
    stands = {"portfolios_over_limit": 2.0}
    used = {f"p{number}": number / 10 for number in range(15)}
    number = take(one, [gauge_tally(HERE, None, stands, used)], 0, now_s=100)
    number = take(
        one, [gauge_tally(THERE, None, {"portfolios_over_limit": 1.0})], number, now_s=100
    )
    take(one, tally(HERE, (0, 0.5), (1, 1.5)), number, now_s=100)
    [update] = one.advance(100 * SECOND)
    assert update.values == {"seen": 1, "portfolios_over_limit": 3.0}
    assert list(update.worst) == [f"p{number}" for number in range(14, 4, -1)]


def test_rates_are_by_the_second() -> None:
    tallying = WindowCounter(SECOND)
    for offset in range(11):
        tallying.add(HERE, None, offset, offset * SECOND, "returns", 30)
    one = board()
    take(one, tallying.tallies(), 0, now_s=100)
    [wide] = told(one.advance(100 * SECOND), 10).values()
    assert (wide["returns"], wide["returns_per_s"]) == (300, 30.0)


seconds = st.lists(st.integers(1, 31), min_size=1, max_size=60)


@given(
    seconds,
    seconds,
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=120, max_size=120),
)
def test_windows_hold_every_record_once_however_often_readers_and_boards_begin_again(
    here: list[int], there: list[int], takes: list[int], crashes: list[tuple[bool, int]]
) -> None:
    """What was not acknowledged, some whole takes, is tallied again, and divided otherwise."""
    logs = {HERE: list(enumerate(here)), THERE: list(enumerate(there))}
    begins = {where: [0] for where in logs}
    one, number, updates, sizes = board(lateness_s=60), 0, [], list(takes)
    for step, (crashed, back) in enumerate(crashes):
        where = (HERE, THERE)[step % 2]
        size = sizes[step % len(sizes)]
        if crashed:
            del begins[where][max(1, len(begins[where]) - back) :]
        begin = begins[where][-1]
        some = logs[where][begin : begin + size]
        begins[where].append(begin + len(some))
        number = take(one, tally(where, *some), number, now_s=100) if some else number
        updates += one.advance(100 * SECOND)
        if crashed:
            state = decode(encode(one.pack()))
            assert isinstance(state, BoardState)
            one = board(lateness_s=60, state=state)
    for where, log in logs.items():
        number = take(one, tally(where, *log[begins[where][-1] :]), number, now_s=100)
    # Silence is counted from when a board, new or not, looks at the clock first.
    updates += one.advance(100 * SECOND) + one.advance(10_000 * SECOND)
    for length in (1, 10, 60):
        expected = Counter(at_s - at_s % length for at_s in (*here, *there))
        found = {start: counts["seen"] for start, counts in told(updates, length).items()}
        assert found == expected


@given(seconds, st.integers(0, 5))
def test_nothing_is_dropped_without_being_counted(at: list[int], lateness_s: int) -> None:
    one, updates = board(lateness_s), []
    for offset, at_s in enumerate(at):
        take(one, tally(HERE, (offset, at_s)), offset, now_s=100)
        updates += one.advance(100 * SECOND)
    updates += one.advance(10_000 * SECOND)
    for length in (1, 10, 60):
        windows = told(updates, length).values()
        assert sum(counts.get("seen", 0) + counts.get("late", 0) for counts in windows) == len(at)
