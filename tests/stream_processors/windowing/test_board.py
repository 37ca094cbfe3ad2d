"""Boards: totals of windows, watermarks, late tallies, and tallies that are read again."""

from collections import Counter
from collections.abc import Iterable

from hypothesis import given, strategies as st

from schemas.codec import decode, encode
from schemas.events import BoardState, DashboardUpdate, WindowTally
from schemas.topics import TopicPartition
from stream_processors.windowing.board import Board
from stream_processors.windowing.tallies import WindowCounter, gauge_tally

SECOND = 1_000_000
HERE, THERE = TopicPartition("risk.alerts", 0), TopicPartition("training.events", 1)
WINDOWS = (SECOND, 10 * SECOND, 60 * SECOND)
NOW_S = 100
NOW_US = NOW_S * SECOND


def new_board(lateness_s: float = 5, state: BoardState | None = None) -> Board:
    return Board(state or BoardState(board="", partition=0), WINDOWS, int(lateness_s * SECOND))


def tally(source: TopicPartition, *records: tuple[int, float]) -> list[WindowTally]:
    """Return the tallies of one batch of records, given by offset and second."""
    counter = WindowCounter(SECOND)
    for offset, at_s in records:
        counter.add(source, None, offset, int(at_s * SECOND), "seen")
    return list(counter.tallies())


def add(board: Board, tallies: Iterable[WindowTally], offset: int) -> int:
    """Add tallies whose own offsets start at `offset`; return the next offset."""
    for added in tallies:
        board.add(added, offset, NOW_US)
        offset += 1
    return offset


def values_of(updates: Iterable[DashboardUpdate], length_s: int = 1) -> dict[int, dict[str, float]]:
    """Return the last values of each window of a length, by its start in seconds."""
    return {
        update.window_start_us // SECOND: dict(update.values)
        for update in updates
        if update.window_start_us is not None
        and update.event_time_us - update.window_start_us == length_s * SECOND
    }


def test_a_window_is_published_when_all_sources_have_passed_its_end() -> None:
    board = new_board()
    offset = add(board, tally(HERE, (0, 0.1), (1, 0.9)), 0)
    offset = add(board, tally(THERE, (0, 0.5)), offset)
    assert board.advance(NOW_US) == []
    offset = add(board, tally(HERE, (2, 1.2)), offset)
    assert board.advance(NOW_US) == []
    add(board, tally(THERE, (1, 1.7)), offset)
    assert values_of(board.advance(NOW_US)) == {0: {"seen": 3}}


def test_without_active_sources_the_watermark_advances_with_the_clock() -> None:
    board = new_board()
    add(board, tally(HERE, (0, 0.5)), 0)
    assert board.advance(int(101.4 * SECOND)) == []
    assert values_of(board.advance(int(101.6 * SECOND))) == {0: {"seen": 1}}
    assert board.advance(105 * SECOND) == []
    assert values_of(board.advance(int(110.6 * SECOND)), 10) == {0: {"seen": 1}}
    assert values_of(board.advance(200 * SECOND), 60) == {0: {"seen": 1}}


def test_a_window_that_a_later_tally_changes_is_published_again_under_its_id() -> None:
    board = new_board(lateness_s=2)
    offset = add(board, tally(HERE, (0, 0.5), (1, 1.5)), 0)
    [before] = board.advance(NOW_US)
    add(board, tally(HERE, (2, 0.7)), offset)
    [after] = board.advance(NOW_US)
    assert before.window_id == after.window_id
    assert (before.values["seen"], after.values["seen"]) == (1, 2)


def test_events_after_the_allowed_lateness_count_as_late() -> None:
    board = new_board(lateness_s=2)
    offset = add(board, tally(HERE, (0, 0.5), (1, 3.5)), 0)
    assert set(values_of(board.advance(NOW_US))) == {0}
    offset = add(board, tally(HERE, (2, 0.6), (3, 0.7)), offset)
    add(board, tally(HERE, (4, 4.1)), offset)
    assert values_of(board.advance(NOW_US)) == {3: {"seen": 1, "late": 2}}


def test_gauges_are_summed_into_the_next_window_and_hold_no_watermark_back() -> None:
    board = new_board()
    gauges = {"portfolios_over_limit": 2.0}
    utilisations = {f"p{number}": number / 10 for number in range(15)}
    offset = add(board, [gauge_tally(HERE, None, gauges, utilisations)], 0)
    offset = add(board, [gauge_tally(THERE, None, {"portfolios_over_limit": 1.0})], offset)
    add(board, tally(HERE, (0, 0.5), (1, 1.5)), offset)
    [update] = board.advance(NOW_US)
    assert update.values == {"seen": 1, "portfolios_over_limit": 3.0}
    assert list(update.worst) == [f"p{number}" for number in range(14, 4, -1)]


def test_rates_are_per_second_of_the_window() -> None:
    counter = WindowCounter(SECOND)
    for offset in range(11):
        counter.add(HERE, None, offset, offset * SECOND, "returns", 30)
    board = new_board()
    add(board, counter.tallies(), 0)
    [wide] = values_of(board.advance(NOW_US), 10).values()
    assert (wide["returns"], wide["returns_per_s"]) == (300, 30.0)


seconds = st.lists(st.integers(1, 31), min_size=1, max_size=60)


@given(
    seconds,
    seconds,
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=120, max_size=120),
)
def test_windows_count_every_record_once_however_often_readers_and_boards_restart(
    here: list[int], there: list[int], sizes: list[int], crashes: list[tuple[bool, int]]
) -> None:
    """After a crash, unacknowledged batches are tallied again, and cut elsewhere."""
    logs = {HERE: list(enumerate(here)), THERE: list(enumerate(there))}
    starts = {source: [0] for source in logs}
    board, offset, updates = new_board(lateness_s=60), 0, []
    for step, (crashed, back) in enumerate(crashes):
        source = (HERE, THERE)[step % 2]
        size = sizes[step % len(sizes)]
        if crashed:
            del starts[source][max(1, len(starts[source]) - back) :]
        start = starts[source][-1]
        batch = logs[source][start : start + size]
        starts[source].append(start + len(batch))
        offset = add(board, tally(source, *batch), offset) if batch else offset
        updates += board.advance(NOW_US)
        if crashed:
            state = decode(encode(board.pack()))
            assert isinstance(state, BoardState)
            board = new_board(lateness_s=60, state=state)
    for source, log in logs.items():
        offset = add(board, tally(source, *log[starts[source][-1] :]), offset)
    # A restarted board counts the time without tallies from when it first reads the clock.
    updates += board.advance(NOW_US) + board.advance(10_000 * SECOND)
    for length in (1, 10, 60):
        expected = Counter(at_s - at_s % length for at_s in (*here, *there))
        published = {start: seen["seen"] for start, seen in values_of(updates, length).items()}
        assert published == expected


@given(seconds, st.integers(0, 5))
def test_every_event_is_counted_in_its_window_or_as_late(at: list[int], lateness_s: int) -> None:
    board, updates = new_board(lateness_s), []
    for offset, at_s in enumerate(at):
        add(board, tally(HERE, (offset, at_s)), offset)
        updates += board.advance(NOW_US)
    updates += board.advance(10_000 * SECOND)
    for length in (1, 10, 60):
        windows = values_of(updates, length).values()
        assert sum(counts.get("seen", 0) + counts.get("late", 0) for counts in windows) == len(at)
