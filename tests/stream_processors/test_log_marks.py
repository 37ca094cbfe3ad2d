from hypothesis import given, strategies as st

from schemas.events import TopicPosition
from stream_processors.log_marks import (
    Cut,
    RecordMark,
    Trail,
    are_copies,
    find_copy,
    find_cut,
    mark_of,
)
from tests.support.messages import FakeMessage


def mark(offset: int, append_ms: int = 0, checksum: int = 0) -> RecordMark:
    return RecordMark(offset, append_ms, checksum)


def test_a_mark_tells_records_apart_by_time_key_and_value() -> None:
    messages = [
        FakeMessage("t", 0, 7, b"k", b"v", timestamp=1.5),
        FakeMessage("t", 0, 7, b"k", b"v", timestamp=1.501),
        FakeMessage("t", 0, 7, b"x", b"v", timestamp=1.5),
        FakeMessage("t", 0, 7, None, None, timestamp=1.5),
    ]
    assert mark_of(messages[0]).append_ms == 1500
    assert len(set(map(mark_of, messages))) == 4


def test_a_log_that_has_all_records_or_lacks_some_before_its_end_has_no_cut() -> None:
    marks = [mark(3, 30), mark(5, 50)]
    assert find_cut(marks, {at.offset: at for at in marks}, 6) is None
    assert find_cut(marks, {}, 6) is None


def test_a_log_that_has_not_grown_up_to_the_last_record_again_has_a_cut() -> None:
    marks = [mark(3, 30), mark(5, 50)]
    assert find_cut(marks, {3: mark(3, 30), 4: mark(4, 90)}, 5) == Cut(5, 50)


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20))
def test_a_cut_is_at_the_first_reused_offset_and_after_the_last_lost_record(
    kept: int, lost: int, unaware: int
) -> None:
    """The log keeps some records, loses some, grows again, and was read on unaware of that."""
    before = [mark(at, at) for at in range(kept + lost)]
    anew = [mark(at, 1000 + at) for at in range(kept, kept + lost + unaware)]
    processed = [*before, *anew[lost:]]
    in_log = {at.offset: at for at in (*before[:kept], *anew)}
    end = kept + lost + unaware
    assert find_cut(processed, in_log, end) == Cut(kept, kept + lost - 1)


def test_a_trail_keeps_what_the_last_two_looks_at_the_leader_do_not_cover() -> None:
    trail = Trail(mark(1))
    trail.add(mark(2))
    trail.add(mark(3))
    assert [at.offset for at in trail.marks] == [1, 2, 3]
    trail.confirm()
    trail.add(mark(4))
    assert [at.offset for at in trail.marks] == [2, 3, 4]
    trail.confirm()
    trail.confirm()
    assert [at.offset for at in trail.marks] == [4]
    assert trail.last == mark(4)
    assert Trail(None).last is None


def test_topics_are_copies_where_all_have_other_ids() -> None:
    saved = [TopicPosition("a", "11", 0, 5), TopicPosition("b", "22", 0, 5)]
    assert are_copies(saved, {"a": "33", "b": "44"})
    assert not are_copies(saved, {"a": "33", "b": "22"})  # one was made anew
    assert not are_copies(saved, {"a": "33"})
    assert not are_copies(saved, {"a": "", "b": ""})
    assert not are_copies([], {"a": "33", "b": "44"})
    unknown = [saved[0], TopicPosition("b", "", 0, 5)]
    assert not are_copies(unknown, {"a": "33", "b": "44"})


def test_a_copy_is_the_last_record_with_the_time_key_and_value_of_the_original() -> None:
    in_log = [mark(0, 7, 1), mark(1, 7, 2), mark(2, 7, 1), mark(3, 8, 2)]
    assert find_copy(mark(90, 7, 2), in_log) == 1
    assert find_copy(mark(90, 7, 1), in_log) == 2
    assert find_copy(mark(90, 9, 1), in_log) is None
