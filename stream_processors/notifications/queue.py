"""The queue of a route: which notes become one message, and when it is tried again. Pure.

    waiting ──(digest and quiet hours are over)──▶ open ──▶ delivered, or given up
                                                    ╰─▶ tried again, later each time ─╯

An alert is one episode from its first transition that is sent to its end, and one note tells of it;
with the route's settings another one tells of a higher level, one of the end, and others remind of
an alert that nobody acknowledges. While a message is sent for the first time, later notes collect
into the next one. A message that is tried again holds up no other, as long as there are few of
them, and a test is a message of its own.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from random import Random
from uuid import NAMESPACE_URL, uuid5

from schemas.events import (
    AlertTransition,
    Note,
    NotificationQueue,
    NotificationRoute,
    OpenMessage,
    Reminder,
    Subject,
)
from stream_processors.notifications.messages import REMINDER
from stream_processors.notifications.quiet_time import end_of_quiet_us
from stream_processors.notifications.routing import ENDS, SILENT, may_know

NOTES_MAX = 100
"""The most notes in a message; the others are counted."""
RETRIED_MAX = 4
"""The most messages of a route that are tried again at once; later notes wait for them."""
TESTS_MAX = 3
"""The most tests of a route at once; more go with the notes that wait."""
_EPISODES_MAX = 5_000
"""The most open alerts that a queue remembers: its row must fit in a record."""
_EPISODE_BYTES_MAX = 64
"""Longer ids of alerts are remembered by their digests."""
_NOTES_BYTES_MAX = 150_000
"""The most bytes of a message's notes, and of those in reminders."""
_OPEN_BYTES_MAX = 300_000
"""The most bytes of the notes of all open messages."""
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 3_600.0
_JITTER = 0.2
_WAIT_MAX_US = 3 * 86_400_000_000
"""Longer than a digest and quiet hours together."""
_PAUSE_MAX_US = 2 * 3_600_000_000
"""Longer than any pause between attempts."""


def with_note(
    queue: NotificationQueue, note: Note, route: NotificationRoute, now_us: int
) -> NotificationQueue:
    """Return a queue with a note, where the note is to be sent.

    Args:
        queue: the route's queue.
        note: what has happened.
        route: how the route is set now.
        now_us: the time, in microseconds since 1970 UTC.
    """
    opened = (known for message in queue.open for known in message.notes)
    if any(note.note_id == known.note_id for known in (*opened, *queue.waiting)):
        return queue
    if note.subject == Subject.TEST and len([*filter(_is_test, queue.open)]) < TESTS_MAX:
        return _with_message(queue, [note], 0, now_us)
    queue = _with_reminder(queue, note, route, now_us)
    return queue if note.state in SILENT else _with_news(queue, note, route, now_us)


def _with_news(
    queue: NotificationQueue, note: Note, route: NotificationRoute, now_us: int
) -> NotificationQueue:
    """Return a queue with a note, unless an earlier note was about its episode."""
    episode = _short(note.episode)
    is_known = episode in queue.episodes
    if note.state in ENDS:
        if not is_known:
            return queue
        rest = tuple(known for known in queue.episodes if known != episode)
        queue = replace(queue, episodes=rest)
        return _with_waiting(queue, note, route, now_us) if route.resolved else queue
    if is_known and not (route.escalations and note.state == AlertTransition.ESCALATED):
        return queue
    if note.subject == Subject.ALERTS and not is_known:
        episodes = (*queue.episodes, episode)[-_EPISODES_MAX:]
        queue = replace(queue, episodes=episodes)
    return _with_waiting(queue, note, route, now_us)


def _with_waiting(
    queue: NotificationQueue, note: Note, route: NotificationRoute, now_us: int
) -> NotificationQueue:
    is_test = note.subject == Subject.TEST
    due_us = now_us if is_test else now_us + round(route.digest_s * 1e6)
    if note.severity not in route.quiet_passes and not is_test:
        due_us = end_of_quiet_us(route.quiet, due_us)
    if queue.waiting:
        due_us = min(due_us, queue.waiting_due_us)
    size = _size_of(queue.waiting) + _bytes_of(note)
    if len(queue.waiting) == NOTES_MAX or size > _NOTES_BYTES_MAX:
        left_out = queue.waiting_left_out + 1
        return replace(queue, waiting_left_out=left_out, waiting_due_us=due_us)
    return replace(queue, waiting=(*queue.waiting, note), waiting_due_us=due_us)


def _with_reminder(
    queue: NotificationQueue, note: Note, route: NotificationRoute, now_us: int
) -> NotificationQueue:
    """Return a queue whose reminder of an alert is set or removed, as a note about it asks."""
    if note.subject != Subject.ALERTS or (route.remind_s <= 0 and not queue.reminders):
        return queue
    known = next((item for item in queue.reminders if item.note.episode == note.episode), None)
    rest = tuple(item for item in queue.reminders if item is not known)
    due_us = now_us + round(route.remind_s * 1e6)
    if note.state == AlertTransition.DEESCALATED:
        # An acknowledged alert stays acknowledged at a lower level.
        is_wanted = known is not None and _is_severe(note, route)
        due_us = due_us if known is None else known.due_us
    else:
        is_wanted = note.state not in (*ENDS, AlertTransition.ACKNOWLEDGED)
    if route.remind_s > 0 and is_wanted:
        size = _size_of(item.note for item in rest) + _bytes_of(note)
        if size <= _NOTES_BYTES_MAX:
            return replace(queue, reminders=(*rest, Reminder(note, due_us)))
    return queue if known is None else replace(queue, reminders=rest)


def _is_severe(note: Note, route: NotificationRoute) -> bool:
    return not route.severities or note.severity in route.severities


def reminded(queue: NotificationQueue, route: NotificationRoute, now_us: int) -> NotificationQueue:
    """Return a queue in which notes wait that remind of alerts whose time has come."""
    if not queue.reminders:
        return queue
    if route.remind_s <= 0:
        return replace(queue, reminders=())
    pause_us = round(route.remind_s * 1e6)
    if not any(_is_time(item.due_us, now_us, pause_us) for item in queue.reminders):
        return queue
    waiting = {note.episode for note in queue.waiting if note.state == REMINDER}
    reminders = []
    for note, due_us in queue.reminders:
        is_due = _is_time(due_us, now_us, pause_us)
        reminders.append(Reminder(note, now_us + pause_us if is_due else due_us))
        if is_due and note.episode not in waiting:
            again = replace(
                note,
                note_id=f"{REMINDER}:{_short(note.episode)}:{now_us}",
                state=REMINDER,
            )
            queue = _with_waiting(queue, again, route, now_us)
    return replace(queue, reminders=tuple(reminders))


def begun(queue: NotificationQueue, now_us: int) -> NotificationQueue:
    """Return a queue that sends the notes that wait, if they are due and nothing holds them up."""
    if not queue.waiting or not _is_time(queue.waiting_due_us, now_us, _WAIT_MAX_US):
        return queue
    others = [message for message in queue.open if not _is_test(message)]
    size = sum(_size_of(message.notes) for message in others) + _size_of(queue.waiting)
    is_held_up = (
        any(not message.attempts for message in others)
        or len(others) >= RETRIED_MAX
        or size > _OPEN_BYTES_MAX
    )
    if others and is_held_up:
        return queue
    queue = _with_message(queue, queue.waiting, queue.waiting_left_out, now_us)
    return replace(queue, waiting=(), waiting_left_out=0)


def _with_message(
    queue: NotificationQueue, notes: Sequence[Note], left_out: int, now_us: int
) -> NotificationQueue:
    number = queue.messages + 1
    message = OpenMessage(
        number=number, notes=tuple(notes), left_out=left_out, begun_us=now_us, due_us=now_us
    )
    return replace(queue, messages=number, open=(*queue.open, message))


def ended(
    queue: NotificationQueue, message: OpenMessage, delivered_us: int | None = None
) -> NotificationQueue:
    """Return a queue without a message.

    Args:
        queue: the queue.
        message: the message.
        delivered_us: when it was delivered, so that the others are tried now; None if it was not.
    """
    rest = [known for known in queue.open if known.number != message.number]
    if delivered_us is not None:
        rest = [replace(known, due_us=min(known.due_us, delivered_us)) for known in rest]
    return replace(queue, open=tuple(rest))


def postponed(
    queue: NotificationQueue,
    message: OpenMessage,
    now_us: int,
    retry_for_s: float,
    retry_after_s: float = 0.0,
) -> NotificationQueue | None:
    """Return a queue that tries a message again later; None where it has been tried long enough.

    Each pause is twice as long as the one before, up to an hour, and a fifth more or less, so that
    the messages of many routes do not meet.

    Args:
        queue: the queue, after a failed attempt.
        message: the message.
        now_us: the time, in microseconds since 1970 UTC.
        retry_for_s: for how long a message is tried.
        retry_after_s: the seconds that the receiver asks for.
    """
    if abs(now_us - message.begun_us) >= retry_for_s * 1e6:  # a clock may have been far ahead
        return None
    pause_s = min(_FIRST_RETRY_S * 2.0 ** min(message.attempts, 30), _LAST_RETRY_S)
    dice = Random(f"{message_id(queue, message)}:{message.attempts}")  # noqa: S311  # no secret depends on it
    pause_s *= dice.uniform(1 - _JITTER, 1 + _JITTER)
    pause_s = max(pause_s, min(retry_after_s, _LAST_RETRY_S))
    later = replace(message, attempts=message.attempts + 1, due_us=now_us + round(pause_s * 1e6))
    return replace(
        queue,
        open=tuple(later if known.number == message.number else known for known in queue.open),
    )


def message_id(queue: NotificationQueue, message: OpenMessage) -> str:
    """Return the id of a message that is being sent, which is the same for all attempts.

    No message of an earlier route of the same name has it, although the number begins again.
    """
    name = f"{queue.tenant or ''}:{queue.route}"
    identity = f"notification:{name}:{message.begun_us}:{message.number}"
    return str(uuid5(NAMESPACE_URL, identity))


def is_empty(queue: NotificationQueue) -> bool:
    """Return whether nothing is being sent, nothing waits, and there is nothing to remind of."""
    return not (queue.open or queue.waiting or queue.reminders)


def is_due(message: OpenMessage, now_us: int) -> bool:
    """Return whether a message is to be tried now."""
    return _is_time(message.due_us, now_us, _PAUSE_MAX_US)


def _is_time(at_us: int, now_us: int, most_us: int) -> bool:
    """Return whether a time has come.

    A time that is too far ahead was set while a clock was wrong, and does not count.
    """
    return not now_us < at_us <= now_us + most_us


def _is_test(message: OpenMessage) -> bool:
    return all(note.subject == Subject.TEST for note in message.notes)


def as_of(queue: NotificationQueue, route: NotificationRoute) -> NotificationQueue:
    """Return a queue without what is of an earlier route of the same name, which was closed."""
    if queue.since_us >= route.since_us:
        return queue
    return NotificationQueue(
        route=queue.route,
        tenant=queue.tenant,
        messages=queue.messages,
        since_us=route.since_us,
    )


def without_foreign(
    queue: NotificationQueue, route: NotificationRoute, under_way: Collection[int] = ()
) -> NotificationQueue:
    """Return a queue without notes of a user whose route another user has replaced.

    Args:
        queue: the queue.
        route: the route.
        under_way: the numbers of messages that are being sent right now, which stay as they are.
    """
    messages = []
    for message in queue.open:
        notes = tuple(note for note in message.notes if may_know(note, route))
        if message.number in under_way or len(notes) == len(message.notes):
            messages.append(message)
        elif notes:
            messages.append(replace(message, notes=notes))
    waiting = tuple(note for note in queue.waiting if may_know(note, route))
    if len(waiting) == len(queue.waiting) and tuple(messages) == queue.open:
        return queue
    left_out = queue.waiting_left_out if waiting else 0
    return replace(queue, open=tuple(messages), waiting=waiting, waiting_left_out=left_out)


def in_present_form(queue: NotificationQueue) -> NotificationQueue:
    """Return a queue as it was read, with tuples, and with the message of an earlier version."""
    opened = tuple(queue.open)
    if queue.sending:
        message = OpenMessage(
            number=queue.messages,
            notes=tuple(queue.sending),
            left_out=queue.sending_left_out,
            attempts=queue.attempts,
            begun_us=queue.begun_us,
            due_us=queue.due_us,
        )
        opened = (message, *opened)
    return replace(
        queue,
        sending=(),
        sending_left_out=0,
        attempts=0,
        open=tuple(replace(message, notes=tuple(message.notes)) for message in opened),
        waiting=tuple(queue.waiting),
        episodes=tuple(queue.episodes),
        reminders=tuple(Reminder(*item) for item in queue.reminders),
    )


def _short(episode: str) -> str:
    data = episode.encode()
    if len(data) <= _EPISODE_BYTES_MAX:
        return episode
    return blake2b(data, digest_size=_EPISODE_BYTES_MAX // 2).hexdigest()


def _size_of(notes: Iterable[Note]) -> int:
    return sum(map(_bytes_of, notes))


def _bytes_of(note: Note) -> int:
    texts = (note.note_id, note.entity_id, note.episode, note.text, note.state, note.severity)
    return sum(len(text.encode()) for text in (*texts, note.metric_name or ""))
