import pytest
from hypothesis import given, strategies as st

from kafka_io.command_window import OFFSETS_MAX, Attempts, CommandWindow

KAFKA_BYTES_MAX = 4_096


@pytest.mark.parametrize(
    ("text", "lost"),
    [("", 0), ("2", 0), ("0/3", 3), ("1/3", 2), ("3/1", 0), ("x", 0), ("1/2/3", 0), ("9" * 20, 0)],
)
def test_an_offset_says_how_many_workers_a_command_has_cost(text: str, lost: int) -> None:
    assert Attempts.parse(text).lost == lost
    assert CommandWindow(7, text).attempts(7).lost == lost


def fetched(window: CommandWindow, *offsets: int) -> list[int]:
    return [offset for offset in offsets if window.fetched(offset)]


def test_a_worker_of_single_commands_commits_what_earlier_versions_understand() -> None:
    window = CommandWindow(5)
    assert window.committable == (5, "")
    assert fetched(window, 5) == [5]
    assert window.begin(5) == Attempts()
    assert window.committable == (5, "0/1")
    window.hand_over(5)
    assert window.committable == (5, "1/1")
    window.finish(5)
    assert window.committable == (6, "")


def test_the_oldest_command_that_is_not_done_is_committed_and_later_ones_are_remembered() -> None:
    window = CommandWindow(10)
    assert fetched(window, *range(10, 20)) == list(range(10, 20))
    for offset in (10, 12, 13, 15):
        window.take(offset)
        window.begin(offset)
    window.finish(12)
    window.finish(15)
    assert window.committable == (10, "0/1 +3:0/1 !24")
    again = CommandWindow(*window.committable)
    assert fetched(again, *range(10, 20)) == [10, 11, 13, 14, 16, 17, 18, 19]
    assert [again.attempts(offset).lost for offset in (10, 11, 13)] == [1, 0, 1]
    for offset in (10, 11):
        again.take(offset)
        again.begin(offset)
        again.finish(offset)
    assert again.committable == (13, "0/1 !4")


def test_commands_that_are_fetched_again_are_not_begun_twice() -> None:
    window = CommandWindow(0)
    fetched(window, 0, 1, 2)
    window.take(0)
    window.begin(0)
    assert fetched(window, 0, 1, 2) == [1, 2]
    window.take(1)
    window.finish(1)
    assert fetched(window, 0, 1, 2) == [2]
    assert window.oldest == 0


def test_a_window_is_full_when_its_oldest_command_takes_long() -> None:
    window = CommandWindow(0)
    fetched(window, *range(OFFSETS_MAX))
    assert window.is_full
    for offset in range(1, OFFSETS_MAX):
        window.finish(offset)
    assert window.is_full
    window.finish(0)
    assert not window.is_full
    assert window.committable == (OFFSETS_MAX, "")


@given(
    st.text(max_size=50) | st.from_regex(r"[0-9]/[0-9]( \+[0-9]{1,3}:[0-9]/?){0,3}( ![0-9a-f]+)?")
)
def test_metadata_of_strangers_is_no_reason_to_stop(text: str) -> None:
    window = CommandWindow(3, text)
    fetched(window, *range(3, 10))
    assert window.oldest >= 3


@given(st.data(), st.integers(1, 60), st.sampled_from([1, 2, 3]))
def test_workers_that_are_killed_at_any_time_do_each_command_once_and_none_is_lost(
    data: st.DataObject, count: int, stride: int
) -> None:
    """Offsets have gaps, as where transactions are. What is done is committed before a death."""
    log = range(100, 100 + count * stride, stride)
    committed, done = (100, ""), list[int]()
    for last in (False, False, True):
        window = CommandWindow(*committed)
        waiting = [offset for offset in log if offset >= committed[0] and window.fetched(offset)]
        assert not set(waiting) & set(done)
        some = data.draw(st.sets(st.sampled_from(log)))
        ends = [offset for offset in waiting if last or offset in some]
        data.draw(st.randoms(use_true_random=False)).shuffle(ends)
        for offset in ends:
            window.take(offset)
            window.begin(offset)
            window.finish(offset)
            done.append(offset)
            committed = window.committable
            assert len(committed[1]) < KAFKA_BYTES_MAX
    assert sorted(done) == list(log)


def test_metadata_fits_whatever_is_in_progress() -> None:
    window = CommandWindow(0)
    fetched(window, *range(OFFSETS_MAX + 100))
    for offset in range(OFFSETS_MAX + 100):
        window.begin(offset)
        if offset % 3 == 1:
            window.finish(offset)
    oldest, text = window.committable
    assert oldest == 0
    assert KAFKA_BYTES_MAX / 2 < len(text) < KAFKA_BYTES_MAX
    again = CommandWindow(oldest, text)
    assert fetched(again, *range(9)) == [0, 2, 3, 5, 6, 8]
    assert again.attempts(2).lost == 1


def test_what_kafka_takes_is_committed_also_where_offsets_are_far_apart() -> None:
    window = CommandWindow(0)
    fetched(window, 0, 7_999, 8_000, 1_000_000)
    for offset in (7_999, 8_000, 1_000_000):
        window.take(offset)
        window.finish(offset)
    offset, metadata = window.committable
    assert offset == 0
    assert len(metadata) <= KAFKA_BYTES_MAX
    assert fetched(CommandWindow(offset, metadata), 0, 7_999, 8_000) == [0, 8_000]
