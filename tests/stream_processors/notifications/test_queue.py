"""A route's queue: one note an episode, one message for many, later attempts, and its bounds."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from schemas.codec import VALUE_BYTES_MAX, encode
from schemas.events import Note, NotificationQueue, QuietHours
from stream_processors.notifications.messages import REMINDER
from stream_processors.notifications.queue import (
    NOTES_MAX,
    RETRIED_MAX,
    TESTS_MAX,
    begun,
    ended,
    in_present_form,
    is_due,
    is_empty,
    message_id,
    postponed,
    reminded,
    with_note,
)
from tests.stream_processors.notifications.conftest import AT_US, note, route

EMPTY = NotificationQueue(route="desk")
SECOND_US = 1_000_000


def waiting(queue: NotificationQueue) -> list[str]:
    return [told.note_id for told in queue.waiting]


def sending(queue: NotificationQueue) -> list[list[str]]:
    """Return the ids of the notes of each open message."""
    return [[told.note_id for told in message.notes] for message in queue.open]


def failing(queue: NotificationQueue, now_us: int = AT_US) -> NotificationQueue:
    """Return a queue whose open messages have failed once."""
    for message in queue.open:
        if not message.attempts:
            later = postponed(queue, message, now_us, 86_400.0)
            assert later is not None
            queue = later
    return queue


def next_us(queue: NotificationQueue) -> int:
    """Return when the notes that wait are due."""
    return queue.waiting_due_us


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
    assert (sending(sent), waiting(sent), sent.messages) == ([["n1", "n2"]], [], 1)
    again = with_note(sent, note(3, "c"), settings, AT_US + 11 * SECOND_US)
    assert begun(again, AT_US + 99 * SECOND_US) is again  # while one is sent, others collect
    done = begun(ended(again, sent.open[0]), AT_US + 99 * SECOND_US)
    assert sending(done) == [["n3"]]
    assert message_id(done, done.open[0]) != message_id(sent, sent.open[0])


def test_a_message_that_is_tried_again_holds_up_no_other_until_there_are_too_many() -> None:
    queue = EMPTY
    for number in range(10):
        queue = with_note(queue, note(number, f"e{number}"), route(), AT_US)
        queue = failing(begun(queue, AT_US))
    assert sending(queue) == [["n0"], ["n1"], ["n2"], ["n3"]]
    assert waiting(queue) == [f"n{number}" for number in range(4, 10)]
    assert all(message.due_us > AT_US for message in queue.open)
    # The receiver is back: all are tried at once, and those that waited are one message.
    queue = ended(queue, queue.open[1], AT_US)
    assert [message.due_us for message in queue.open] == [AT_US] * 3
    assert sending(begun(queue, AT_US))[-1] == waiting(queue)


def test_a_message_that_was_given_up_says_nothing_about_the_others() -> None:
    queue = EMPTY
    for number in range(2):
        queue = failing(begun(with_note(queue, note(number, f"e{number}"), route(), AT_US), AT_US))
    rest = ended(queue, queue.open[0])
    assert rest.open == queue.open[1:]


def test_messages_that_are_tried_again_are_bounded_in_bytes() -> None:
    queue = EMPTY
    for number in range(800):
        large = note(number, f"e{number}", text="é" * 500, entity_id="é" * 250)
        queue = with_note(queue, large, route(), AT_US)
        if number % 100 == 99:
            queue = failing(begun(queue, AT_US))
    assert 1 < len(queue.open) < 4
    assert len(encode(queue)) < VALUE_BYTES_MAX - 8_192


def test_quiet_hours_hold_messages_back_and_let_some_severities_pass() -> None:
    settings = route(quiet=QuietHours(15 * 60, 18 * 60, "UTC"), quiet_passes=["critical"])
    quiet = with_note(EMPTY, note(1), settings, AT_US)
    assert next_us(quiet) == AT_US + 2 * 3_600 * SECOND_US  # 18:00
    urgent = with_note(quiet, note(2, "b", severity="critical"), settings, AT_US)
    assert next_us(urgent) == AT_US
    assert sending(begun(urgent, AT_US)) == [["n1", "n2"]]


def test_a_test_is_a_message_of_its_own_which_waits_for_nothing() -> None:
    settings = route(digest_s=60.0, quiet=QuietHours(15 * 60, 18 * 60, "UTC"))
    queue = with_note(EMPTY, note(1), settings, AT_US)
    queue = with_note(queue, note(2, subject="test"), settings, AT_US)
    assert (sending(queue), waiting(queue)) == ([["n2"]], ["n1"])
    assert is_due(queue.open[0], AT_US)
    assert next_us(queue) > AT_US
    queue = begun(queue, next_us(queue))
    assert sending(queue) == [["n2"], ["n1"]]
    for number in range(3, 7):
        queue = with_note(queue, note(number, f"t{number}", subject="test"), settings, AT_US)
    assert sending(queue) == [["n2"], ["n1"], ["n3"], ["n4"]]
    assert waiting(queue) == ["n5", "n6"]


def test_pauses_between_attempts_double_up_to_an_hour_and_end() -> None:
    queue = begun(with_note(EMPTY, note(), route(), AT_US), AT_US)
    [first] = queue.open
    now_us, pauses = AT_US, []
    while True:
        [message] = queue.open
        later = postponed(queue, message, now_us, 86_400.0)
        if later is None:
            break
        pauses.append((later.open[0].due_us - now_us) / 1e6)
        queue, now_us = later, later.open[0].due_us
    for number, pause_s in enumerate(pauses):
        middle_s = min(2.0**number, 3_600.0)
        assert 0.8 * middle_s <= pause_s <= 1.2 * middle_s
    assert 86_400 <= (now_us - AT_US) / 1e6 <= 86_400 + 1.2 * 3_600
    assert message.attempts == len(pauses)
    assert message_id(queue, message) == message_id(queue, first)


def test_a_receiver_may_ask_for_a_longer_pause_up_to_an_hour() -> None:
    queue = begun(with_note(EMPTY, note(), route(), AT_US), AT_US)
    for asked_s, pause_s in ((120.0, 120.0), (1e9, 3_600.0)):
        later = postponed(queue, queue.open[0], AT_US, 86_400.0, asked_s)
        assert later is not None
        assert later.open[0].due_us == AT_US + pause_s * SECOND_US


def test_messages_of_other_tenants_have_other_ids() -> None:
    queue = begun(with_note(EMPTY, note(), route(), AT_US), AT_US)
    [message] = queue.open
    other = replace(queue, tenant="acme")
    assert message_id(queue, message) != message_id(other, message)


def test_a_message_of_an_earlier_versions_row_is_sent_on_with_its_id() -> None:
    queue = begun(with_note(EMPTY, note(1), route(), AT_US), AT_US)
    queue = with_note(queue, note(2, "b"), route(), AT_US)
    [message] = queue.open
    row = replace(
        queue,
        open=(),
        sending=list(message.notes),
        sending_left_out=3,
        attempts=2,
        begun_us=message.begun_us,
        due_us=AT_US + 5,
    )
    read = in_present_form(row)
    [found] = read.open
    assert found == replace(message, left_out=3, attempts=2, due_us=AT_US + 5)
    assert message_id(read, found) == message_id(queue, message)
    assert in_present_form(read) == read
    assert waiting(read) == ["n2"]


def told_again(queue: NotificationQueue) -> list[str]:
    return [item.text for item in queue.waiting if item.state == REMINDER]


def test_an_alert_without_an_acknowledgement_is_reminded_of_until_it_ends() -> None:
    settings = route(remind_s=600.0)
    for state in ("acknowledged", "cleared"):
        queue = with_note(EMPTY, note(1, text="p is over"), settings, AT_US)
        message = begun(queue, AT_US).open[0]
        queue = ended(begun(queue, AT_US), message, AT_US)
        assert not is_empty(queue)
        assert reminded(queue, settings, AT_US + 599 * SECOND_US) is queue
        now_us = AT_US
        for lap in range(1, 4):
            now_us = AT_US + lap * 600 * SECOND_US
            queue = reminded(queue, settings, now_us)
            assert told_again(queue) == ["p is over"]
            queue = begun(queue, now_us)
            queue = ended(queue, queue.open[0], now_us)
        queue = with_note(queue, note(2, state=state), settings, now_us)
        assert is_empty(queue)
        assert reminded(queue, settings, now_us + 10**12) is queue


def test_reminders_say_what_holds_now_and_an_escalation_asks_anew() -> None:
    settings = route(remind_s=600.0, severities=["high", "critical"])
    queue = with_note(EMPTY, note(1), settings, AT_US)
    queue = with_note(queue, note(2, state="acknowledged"), settings, AT_US)
    assert queue.reminders == ()
    queue = with_note(queue, note(3, state="deescalated"), settings, AT_US)
    assert queue.reminders == ()  # it stays acknowledged
    queue = with_note(queue, note(4, state="escalated", severity="critical"), settings, AT_US + 5)
    assert [item.note.note_id for item in queue.reminders] == ["n4"]
    due_us = queue.reminders[0].due_us
    queue = with_note(queue, note(5, state="deescalated"), settings, AT_US + 9)
    assert [(item.note.note_id, item.due_us) for item in queue.reminders] == [("n5", due_us)]
    lower = with_note(queue, note(6, state="deescalated", severity="low"), settings, AT_US + 9)
    assert lower.reminders == ()  # the route is about higher ones
    assert waiting(queue) == ["n1"]


def test_reminders_wait_for_the_end_of_quiet_hours_and_one_tells_of_each_alert() -> None:
    settings = route(remind_s=600.0, quiet=QuietHours(15 * 60, 18 * 60, "UTC"))
    queue = with_note(EMPTY, note(1), settings, AT_US)
    queue = with_note(queue, note(2, "b"), settings, AT_US)
    for minute in range(120):
        queue = reminded(queue, settings, AT_US + minute * 60 * SECOND_US)
    assert len(told_again(queue)) == 2
    assert next_us(queue) == AT_US + 2 * 3_600 * SECOND_US  # 18:00


def test_a_route_without_reminders_forgets_them() -> None:
    queue = with_note(EMPTY, note(1), route(remind_s=600.0), AT_US)
    assert reminded(queue, route(), AT_US).reminders == ()
    queue = with_note(queue, note(2, "b"), route(), AT_US)
    assert [item.note.note_id for item in queue.reminders] == ["n1"]
    assert with_note(EMPTY, note(1, subject="jobs"), route(remind_s=9.0), AT_US).reminders == ()


_notes = st.builds(
    note,
    st.integers(0, 400),
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["raised", "escalated", "stale", "cleared", "stale_cleared"]),
    subject=st.sampled_from(["alerts", "jobs", "test"]),
    severity=st.sampled_from(["low", "high", "critical"]),
)


@given(st.lists(st.one_of(_notes, st.sampled_from(["begin", "fail", "end"])), max_size=300))
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
            if step == "begin":
                queue = begun(queue, now_us)
            elif step == "fail":
                queue = failing(queue, now_us)
            elif queue.open:
                queue = ended(queue, queue.open[0], now_us)
        else:
            queue = with_note(queue, step, settings, now_us)
            taken += (len(queue.waiting), queue.waiting_left_out, queue.messages) != (
                len(before.waiting),
                before.waiting_left_out,
                before.messages,
            )
        if queue.messages > before.messages:
            messages.append((message_id(queue, queue.open[-1]), queue.open[-1]))
        assert len(queue.waiting) <= NOTES_MAX
        assert len(queue.open) <= RETRIED_MAX + TESTS_MAX
        assert is_empty(queue) == (not queue.open and not queue.waiting)
    told = sum(len(message.notes) + message.left_out for _, message in messages)
    assert told + len(queue.waiting) + queue.waiting_left_out == taken
    assert len({name for name, _ in messages}) == len(messages) == queue.messages


@pytest.mark.parametrize("count", [6_000])
def test_the_largest_queue_fits_in_a_record(count: int) -> None:
    long, queue = "é" * 200, EMPTY
    for number in range(count):
        queue = with_note(
            queue,
            note(number, f"{number:036}", entity_id=long, text="é" * 500, metric_name=long),
            route(remind_s=60.0),
            AT_US,
        )
        if number % (NOTES_MAX + 5) == 0:
            queue = failing(begun(queue, AT_US))
    assert queue.reminders
    assert len(queue.open) > 1
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
        queue = with_note(queue, noted(number), route(remind_s=60.0), AT_US)
        if number % (NOTES_MAX + 5) == 0:
            queue = failing(begun(queue, AT_US))
    assert queue.open
    assert queue.waiting
    assert queue.waiting_left_out > 0
    assert len(encode(queue)) < VALUE_BYTES_MAX - 8_192
    rest = len(queue.episodes)
    queue = with_note(queue, replace(noted(5_099), state="cleared"), route(), AT_US)
    assert len(queue.episodes) == rest - 1


def test_a_time_that_a_wrong_clock_has_set_holds_nothing_up() -> None:
    ahead_us = AT_US + 365 * 86_400 * SECOND_US
    settings = route(digest_s=60.0, remind_s=600.0)
    queue = with_note(EMPTY, note(1), settings, ahead_us)
    assert begun(queue, ahead_us) is queue
    assert begun(queue, AT_US).open
    assert told_again(reminded(queue, settings, AT_US)) == ["note 1"]
    queue = begun(queue, ahead_us + 60 * SECOND_US)
    later = postponed(queue, queue.open[0], ahead_us + 60 * SECOND_US, 86_400.0)
    assert later is not None
    assert not is_due(later.open[0], ahead_us + 60 * SECOND_US)
    assert is_due(later.open[0], AT_US)
    assert postponed(later, later.open[0], AT_US, 86_400.0) is None


def test_a_late_digest_before_quiet_hours_is_not_taken_for_a_wrong_clock() -> None:
    settings = route(digest_s=86_400.0, quiet=QuietHours(0, 24 * 60 - 1, "UTC"))
    queue = with_note(EMPTY, note(), settings, AT_US)
    assert begun(queue, AT_US) is queue
