"""Routes of notifications, what is to be sent by them, and what became of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.bounds import (
    Bytes,
    Count,
    DerivedId,
    Finite,
    InstantUs,
    Items,
    Name,
    ObservedUs,
    SmallCount,
    Table,
    Text,
)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """The hours of each day in which messages wait; they may go past midnight."""

    start_minute: SmallCount
    """Minutes after midnight."""
    end_minute: SmallCount
    time_zone: Name
    """The name of a time zone, such as `Europe/Berlin`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRoute:
    """The events that are sent to one destination, from now on."""

    name: Name
    destination: Name
    """A `Destination`."""
    url: Text = ""
    """The address of a webhook; empty where it is a secret, or where there are recipients."""
    recipients: Items[Name] = ()
    """The addresses of an e-mail."""
    secret_refs: Table[Name] = field(default_factory=dict)
    """The secrets that the notifier reads from its own files, by what each is, such as `url`."""
    sealed: Bytes | None = None
    """Encrypted secrets."""
    subjects: Items[Name]
    """The `Subject`s that it is about."""
    severities: Items[Name] = ()
    """The severities that are sent; all where there are none."""
    entities: Items[Name] = ()
    """Patterns of the portfolios, jobs and tasks, such as `desk-*`; all where there are none."""
    resolved: bool = False
    """Whether the end of an alert is sent as well."""
    escalations: bool = False
    """Whether a higher level of an alert is sent as well."""
    digest_s: Finite = 0.0
    """How long events are collected into one message."""
    quiet: QuietHours | None = None
    quiet_passes: Items[Name] = ()
    """The severities that are sent in quiet hours."""
    closed: bool = False
    since_us: InstantUs = 0
    """Events that Kafka got before this time are not sent."""
    owner_tenant: Name | None = None
    set_by: Name | None = None
    """The user who gets the events of its own jobs and tasks; None for those of all."""
    event_time_us: ObservedUs
    remind_s: Finite = 0.0
    """How often to remind of an alert that nobody has acknowledged; 0 for never."""


@dataclass(frozen=True, slots=True)
class Note:
    """One event that a message tells of."""

    note_id: DerivedId
    subject: Name
    entity_id: Name
    episode: DerivedId
    """The same for all notes of one alert, job or task."""
    state: Name
    severity: Name
    text: Text
    event_time_us: InstantUs
    metric_name: Name | None = None
    metric_value: Finite | None = None
    threshold: Finite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRequest:
    """A note is to be sent by a route."""

    route: Name
    note: Note

    @property
    def event_time_us(self) -> int:
        """The time of the event that the note tells of."""
        return self.note.event_time_us

    @property
    def event_id(self) -> str:
        """The CloudEvents id: the route's name and the note's id."""
        return f"{self.route}:{self.note.note_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMessage:
    """A message that is being sent, or tried again."""

    number: Count
    """The number of the message among those of its route."""
    notes: Items[Note]
    left_out: SmallCount = 0
    """How many notes have no place in it."""
    attempts: SmallCount = 0
    """The failed attempts to send it."""
    begun_us: InstantUs
    """The time when it was begun."""
    due_us: InstantUs
    """The time of its next attempt."""


class Reminder(NamedTuple):
    """An alert that is open, and that nobody has acknowledged."""

    note: Note
    """The last note about it."""
    due_us: InstantUs
    """The time to remind of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationQueue:
    """The notifier's state of a route: the messages that are being sent, and the notes after them.

    The fields of a single message, `sending` to `due_us`, are those of an earlier version.
    """

    route: Name
    tenant: Name | None = None
    messages: Count = 0
    """The number of messages that were begun."""
    sending: Items[Note] = ()
    """The notes of the message that is being sent; none between two messages."""
    sending_left_out: SmallCount = 0
    """How many notes have no place in that message."""
    attempts: SmallCount = 0
    """The failed attempts to send it."""
    begun_us: InstantUs = 0
    """The time when that message was begun."""
    due_us: InstantUs = 0
    """The time of its next attempt."""
    waiting: Items[Note] = ()
    waiting_due_us: InstantUs = 0
    """The time from which they are sent."""
    waiting_left_out: SmallCount = 0
    episodes: Items[DerivedId] = ()
    """The open alerts that the route has sent, the oldest first."""
    since_us: InstantUs = 0
    """The `since_us` of the route whose queue it is."""
    open: Items[OpenMessage] = ()
    """The messages that are being sent, the oldest first."""
    reminders: Items[Reminder] = ()
    """The open alerts that nobody has acknowledged, if the route reminds of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationDelivery:
    """A message was delivered, is tried again later, or was given up."""

    route: Name
    message_id: Name
    """The same for all attempts; receivers can drop a repeat by it."""
    state: Name
    """A `DeliveryState`."""
    attempts: SmallCount
    notes: SmallCount
    """The number of notes in the message."""
    note_ids: Items[DerivedId]
    detail: Text = ""
    owner: Name | None = None
    """The user whose jobs or tasks it tells of; None for alerts, which are for all of a tenant."""
    event_time_us: ObservedUs

    @property
    def event_id(self) -> str:
        """The CloudEvents id, made of the message, the attempt and the state."""
        return f"{self.message_id}:{self.attempts}:{self.state}"
