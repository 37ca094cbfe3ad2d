"""A route's queue: one note an episode, one message for many, later attempts, and its bounds."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from schemas.codec import VALUE_BYTES_MAX, encode
from schemas.events import Note, NotificationQueue, QuietHours
from stream_processors.notifications.queue import (
    NOTES_MAX,
    begun,
    ended,
    is_due,
    is_empty,
    message_id,
    next_us,
    note_ids,
    postponed,
    with_note,
)
from tests.stream_processors.notifications.conftest import AT_US, note, route

EMPTY = NotificationQueue(route="desk")
SECOND_US = 1_000_000


def waiting(queue: NotificationQueue) -> list[str]:
    return note_ids(queue.waiting)


def test_one_note_tells_of_an_episode() -> None:
    queue = with_note(EMPTY, note(1), route(), AT_US)
    for number, state in ((2, "escalated"), (3, "raised"), (4, "cleared")):
        queue = with_note(queue, note(number, state=state), route(), AT_US)
    assert waiting(queue) == ["n1"]
    assert queue.episodes == ()
    assert waiting(with_note(queue, note(5), route(), AT_US)) == ["n1", "n5"]  # another episode


def test_escalations_and_ends_are_sent_where_the_route_says_so() -> None:
    settings = route(escalations=True, resolved=True)
    queue = EMPTY
    for number, state in enumerate(("raised", "escalated", "cleared", "cleared")):
        queue = with_note(queue, note(number, state=state), settings, AT_US)
    assert waiting(queue) == ["n0", "n1", "n2"]


def test_the_end_of_an_alert_is_not_sent_without_its_start() -> None:
    settings = route(resolved=True)
    assert with_note(EMPTY, note(state="cleared"), settings, AT_US) is EMPTY


def test_a_note_that_is_read_again_is_sent_once() -> None:
    queue = with_note(EMPTY, note(1, subject="jobs"), route(), AT_US)
    assert with_note(queue, note(1, subject="jobs"), route(), AT_US) is queue


def test_notes_wait_for_the_digest_of_the_first_and_become_one_message() -> None:
    settings = route(digest_s=10.0)
    queue = with_note(EMPTY, note(1, "a"), settings, AT_US)
    queue = with_note(queue, note(2, "b"), settings, AT_US + 9 * SECOND_US)
    assert next_us(queue) == AT_US + 10 * SECOND_US
    assert begun(queue, AT_US + 10 * SECOND_US - 1) is queue
    sent = begun(queue, AT_US + 10 * SECOND_US)
    assert (note_ids(sent.sending), waiting(sent), sent.messages) == (["n1", "n2"], [], 1)
    again = with_note(sent, note(3, "c"), settings, AT_US + 11 * SECOND_US)
    assert begun(again, AT_US + 99 * SECOND_US) is again  # one message at a time
    done = ended(again)
    assert note_ids(begun(done, AT_US + 99 * SECOND_US).sending) == ["n3"]
    assert message_id(begun(done, AT_US + 99 * SECOND_US)) != message_id(sent)


def test_quiet_hours_hold_messages_back_and_let_some_severities_pass() -> None:
    settings = route(quiet=QuietHours(15 * 60, 18 * 60, "UTC"), quiet_passes=["critical"])
    quiet = with_note(EMPTY, note(1), settings, AT_US)
    assert next_us(quiet) == AT_US + 2 * 3_600 * SECOND_US  # 18:00
    urgent = with_note(quiet, note(2, "b", severity="critical"), settings, AT_US)
    assert next_us(urgent) == AT_US
    assert note_ids(begun(urgent, AT_US).sending) == ["n1", "n2"]


def test_a_test_is_sent_at_once() -> None:
    settings = route(digest_s=60.0, quiet=QuietHours(15 * 60, 18 * 60, "UTC"))
    assert next_us(with_note(EMPTY, note(subject="test"), settings, AT_US)) == AT_US


def test_pauses_between_attempts_double_up_to_an_hour_and_end() -> None:
    queue = begun(with_note(EMPTY, note(), route(), AT_US), AT_US)
    now_us, pauses = AT_US, []
    while True:
        later = postponed(queue, now_us, 86_400.0)
        if later is None:
            break
        pauses.append((later.due_us - now_us) / 1e6)
        queue, now_us = later, later.due_us
    for number, pause_s in enumerate(pauses):
        middle_s = min(2.0**number, 3_600.0)
        assert 0.8 * middle_s <= pause_s <= 1.2 * middle_s
    assert 86_400 <= (now_us - AT_US) / 1e6 <= 86_400 + 1.2 * 3_600
    assert queue.attempts == len(pauses)
    assert message_id(queue) == message_id(replace(queue, attempts=0))


def test_a_receiver_may_ask_for_a_longer_pause_up_to_an_hour() -> None:
    queue = begun(with_note(EMPTY, note(), route(), AT_US), AT_US)
    for asked_s, pause_s in ((120.0, 120.0), (1e9, 3_600.0)):
        later = postponed(queue, AT_US, 86_400.0, asked_s)
        assert later is not None
        assert later.due_us == AT_US + pause_s * SECOND_US


def test_messages_of_other_tenants_have_other_ids() -> None:
    queue = NotificationQueue(route="desk", messages=1)
    assert message_id(queue) != message_id(replace(queue, tenant="acme"))


_notes = st.builds(
    note,
    st.integers(0, 400),
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["raised", "escalated", "stale", "cleared", "stale_cleared"]),
    subject=st.sampled_from(["alerts", "jobs", "test"]),
    severity=st.sampled_from(["low", "high", "critical"]),
)


@given(st.lists(st.one_of(_notes, st.sampled_from(["begin", "end"])), max_size=300))
def test_each_note_is_in_one_message_at_most_and_counted_where_it_has_no_place(
    steps: list[Note | str],
) -> None:
    queue, now_us = EMPTY, AT_US
    settings = route(escalations=True, resolved=True)
    taken, messages = 0, []
    for step in steps:
        now_us += SECOND_US
        before = queue
        if isinstance(step, str):
            queue = begun(queue, now_us) if step == "begin" else ended(queue)
            if step == "begin" and queue is not before:
                messages.append(queue)
        else:
            queue = with_note(queue, step, settings, now_us)
            taken += (len(queue.waiting), queue.waiting_left_out) != (
                len(before.waiting),
                before.waiting_left_out,
            )
        assert len(queue.waiting) <= NOTES_MAX
        assert is_empty(queue) == (next_us(queue) is None)
    told = sum(len(message.sending) + message.sending_left_out for message in messages)
    assert told + len(queue.waiting) + queue.waiting_left_out == taken
    assert len({message_id(message) for message in messages}) == len(messages)


@pytest.mark.parametrize("count", [6_000])
def test_the_largest_queue_fits_in_a_record(count: int) -> None:
    long, queue = "é" * 200, EMPTY
    for number in range(count):
        queue = with_note(
            queue,
            note(number, f"{number:036}", entity_id=long, text="é" * 500, metric_name=long),
            route(),
            AT_US,
        )
        if number == NOTES_MAX + 5:
            queue = begun(queue, AT_US)
    assert len(queue.episodes) == 5_000
    assert queue.waiting_left_out > 0
    assert len(encode(queue)) < VALUE_BYTES_MAX - 4_096


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600"])
def test_a_queue_of_the_longest_ids_fits_in_a_record(letter: str) -> None:
    def noted(number: int) -> Note:
        long = f"{number:06}".ljust(250, letter)
        made = note(number, 4 * long, entity_id=long, text=letter * 500, metric_name=long)
        return replace(made, note_id=4 * long, severity=long, state=long)

    queue = EMPTY
    for number in range(5_100):
        queue = with_note(queue, noted(number), route(), AT_US)
        if number == NOTES_MAX + 5:
            queue = begun(queue, AT_US)
    assert queue.sending
    assert queue.waiting
    assert queue.waiting_left_out > 0
    assert len(encode(queue)) < VALUE_BYTES_MAX - 8_192
    rest = len(queue.episodes)
    queue = with_note(queue, replace(noted(5_099), state="cleared"), route(), AT_US)
    assert len(queue.episodes) == rest - 1


def test_a_time_that_a_wrong_clock_has_set_holds_nothing_up() -> None:
    ahead_us = AT_US + 365 * 86_400 * SECOND_US
    queue = with_note(EMPTY, note(1), route(digest_s=60.0), ahead_us)
    assert not is_due(queue, ahead_us)
    assert is_due(queue, AT_US)
    queue = begun(queue, ahead_us + 60 * SECOND_US)
    later = postponed(queue, ahead_us + 60 * SECOND_US, 86_400.0)
    assert later is not None
    assert not is_due(later, ahead_us + 60 * SECOND_US)
    assert is_due(later, AT_US)
    assert postponed(later, AT_US, 86_400.0) is None


def test_a_late_digest_before_quiet_hours_is_not_taken_for_a_wrong_clock() -> None:
    settings = route(digest_s=86_400.0, quiet=QuietHours(0, 24 * 60 - 1, "UTC"))
    queue = with_note(EMPTY, note(), settings, AT_US)
    assert not is_due(queue, AT_US)
