"""The queue of a route: which notes become one message, and when it is tried again. Pure.

    waiting ──(digest and quiet hours are over)──▶ sending ──▶ delivered, or given up
                                                    ╰─▶ tried again, later each time ─╯

An alert is one episode from its first transition that is sent to its end, and one note tells of it;
with the route's settings another one tells of a higher level, and one of the end. While a message
is tried again, later notes collect into the next one.
"""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from random import Random
from uuid import NAMESPACE_URL, uuid5

from schemas.events import AlertTransition, Note, NotificationQueue, NotificationRoute, Subject
from stream_processors.notifications.quiet_time import end_of_quiet_us
from stream_processors.notifications.routing import ENDS, may_know

NOTES_MAX = 100
"""The most notes in a message; the others are counted."""
_EPISODES_MAX = 5_000
"""The most open alerts that a queue remembers: its row must fit in a record."""
_EPISODE_BYTES_MAX = 64
"""Longer ids of alerts are remembered by their digests."""
_NOTES_BYTES_MAX = 300_000
"""The most bytes of a message's notes: a row has those of two messages."""
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
    if any(note.note_id == known.note_id for known in (*queue.sending, *queue.waiting)):
        return queue
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
    size = sum(map(_bytes_of, queue.waiting)) + _bytes_of(note)
    if len(queue.waiting) == NOTES_MAX or size > _NOTES_BYTES_MAX:
        left_out = queue.waiting_left_out + 1
        return replace(queue, waiting_left_out=left_out, waiting_due_us=due_us)
    return replace(queue, waiting=(*queue.waiting, note), waiting_due_us=due_us)


def begun(queue: NotificationQueue, now_us: int) -> NotificationQueue:
    """Return a queue that sends the notes that wait, if none are being sent and they are due."""
    if queue.sending or not is_due(queue, now_us):
        return queue
    return replace(
        queue,
        messages=queue.messages + 1,
        sending=queue.waiting,
        sending_left_out=queue.waiting_left_out,
        attempts=0,
        begun_us=now_us,
        due_us=now_us,
        waiting=(),
        waiting_left_out=0,
    )


def ended(queue: NotificationQueue) -> NotificationQueue:
    """Return a queue whose message was delivered or given up."""
    return replace(queue, sending=(), sending_left_out=0, attempts=0)


def postponed(
    queue: NotificationQueue, now_us: int, retry_for_s: float, retry_after_s: float = 0.0
) -> NotificationQueue | None:
    """Return a queue that tries its message again later; None where it has been tried long enough.

    Each pause is twice as long as the one before, up to an hour, and a fifth more or less, so that
    the messages of many routes do not meet.

    Args:
        queue: the queue, after a failed attempt.
        now_us: the time, in microseconds since 1970 UTC.
        retry_for_s: for how long a message is tried.
        retry_after_s: the seconds that the receiver asks for.
    """
    if abs(now_us - queue.begun_us) >= retry_for_s * 1e6:  # a clock may have been far ahead
        return None
    pause_s = min(_FIRST_RETRY_S * 2.0 ** min(queue.attempts, 30), _LAST_RETRY_S)
    dice = Random(f"{message_id(queue)}:{queue.attempts}")  # noqa: S311  # no secret depends on it
    pause_s *= dice.uniform(1 - _JITTER, 1 + _JITTER)
    pause_s = max(pause_s, min(retry_after_s, _LAST_RETRY_S))
    return replace(queue, attempts=queue.attempts + 1, due_us=now_us + round(pause_s * 1e6))


def message_id(queue: NotificationQueue) -> str:
    """Return the id of the message that is being sent, which is the same for all attempts.

    No message of an earlier route of the same name has it, although the number begins again.
    """
    name = f"{queue.tenant or ''}:{queue.route}"
    identity = f"notification:{name}:{queue.begun_us}:{queue.messages}"
    return str(uuid5(NAMESPACE_URL, identity))


def is_empty(queue: NotificationQueue) -> bool:
    """Return whether nothing is being sent and nothing waits."""
    return not queue.sending and not queue.waiting


def next_us(queue: NotificationQueue) -> int | None:
    """Return when there is something to do; None where there is nothing."""
    if queue.sending:
        return queue.due_us
    return queue.waiting_due_us if queue.waiting else None


def is_due(queue: NotificationQueue, now_us: int) -> bool:
    """Return whether there is something to do now.

    A time that is too far ahead was set while a clock was wrong, and does not count.
    """
    at_us = next_us(queue)
    most_us = _PAUSE_MAX_US if queue.sending else _WAIT_MAX_US
    return at_us is not None and not now_us < at_us <= now_us + most_us


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


def without_foreign(queue: NotificationQueue, route: NotificationRoute) -> NotificationQueue:
    """Return a queue without notes of a user whose route another user has replaced."""
    sending = tuple(note for note in queue.sending if may_know(note, route))
    waiting = tuple(note for note in queue.waiting if may_know(note, route))
    if len(sending) + len(waiting) == len(queue.sending) + len(queue.waiting):
        return queue
    if not sending:
        queue = ended(queue)
    left_out = queue.waiting_left_out if waiting else 0
    return replace(queue, sending=sending, waiting=waiting, waiting_left_out=left_out)


def _short(episode: str) -> str:
    data = episode.encode()
    if len(data) <= _EPISODE_BYTES_MAX:
        return episode
    return blake2b(data, digest_size=_EPISODE_BYTES_MAX // 2).hexdigest()


def _bytes_of(note: Note) -> int:
    texts = (note.note_id, note.entity_id, note.episode, note.text, note.state, note.severity)
    return sum(len(text.encode()) for text in (*texts, note.metric_name or ""))


def note_ids(notes: Iterable[Note]) -> list[str]:
    """Return the ids of some notes."""
    return [note.note_id for note in notes]
