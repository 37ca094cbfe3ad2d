"""The two processors of the notifier: which events are sent by which routes, and their sending.

Events go to the partition of their route first, so that a route has one queue: what happens at once
in many partitions becomes one message.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from kafka_io.clock import now_us
from kafka_io.dead_letters import log_time_us
from schemas.events import (
    DeliveryState,
    Note,
    NotificationDelivery,
    NotificationQueue,
    NotificationRequest,
    NotificationRoute,
    OpenMessage,
    Record,
    Subject,
)
from schemas.keys import encode_key
from schemas.topics import (
    BACKTEST_EVENTS,
    NOTIFICATION_QUEUES,
    NOTIFICATION_REQUESTS,
    RISK_ALERTS,
    TRAINING_EVENTS,
)
from stream_processors.messages import Admitted, tenant_of
from stream_processors.notifications.messages import OutgoingMessage
from stream_processors.notifications.outbox import Outbox, Settled
from stream_processors.notifications.queue import (
    as_of,
    begun,
    ended,
    in_present_form,
    is_due,
    is_empty,
    message_id,
    postponed,
    reminded,
    with_note,
    without_foreign,
)
from stream_processors.notifications.routing import may_know, note_of, routes_for
from stream_processors.processor import Processor, Round, Rows, restored

_TICK_S = 0.2
_IDLE_TICK_S = 1.0
"""The seconds between two ticks of a partition number that has nothing to send."""
_SWEEP_TICKS = 60
"""The ticks, of which an idle partition number has one a second, after which the queues of closed
routes are dropped that have nothing to send."""


class Routes(Protocol):
    """The routes as they are now."""

    def find(self, name: str, tenant: str | None) -> NotificationRoute | None:
        """Return a tenant's route; None if there is none, or if it was closed."""
        ...

    def of(self, tenant: str | None) -> Iterable[NotificationRoute]:
        """Return the routes of a tenant."""
        ...


class RouteEvents(Processor):
    """Sends events on to the partitions of the routes that are about them."""

    def __init__(self, routes: Routes) -> None:
        """Route by the present routes."""
        super().__init__("route_events", (RISK_ALERTS, BACKTEST_EVENTS, TRAINING_EVENTS))
        self._routes = routes

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Do nothing: it has no state."""

    def forget(self, number: int) -> None:
        """Do nothing: it has no state."""

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Request what the routes of the messages' tenants are about."""
        for message in messages:
            tenant = tenant_of(message)
            note = note_of(message.record)
            if note is None:
                continue
            for route in routes_for(note, self._routes.of(tenant)):
                if log_time_us(message) >= route.since_us:
                    this_round.send(NotificationRequest(route=route.name, note=note), tenant)
                    this_round.must_end = True


class SendMessages(Processor):
    """Collects the notes of each route into messages, and has them sent."""

    def __init__(
        self,
        routes: Routes,
        outbox: Outbox,
        retry_for_s: float,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        """Send by an outbox.

        Args:
            routes: the present routes.
            outbox: sends messages in the background.
            retry_for_s: for how long a message is tried again.
            clock_us: the time, in microseconds since 1970 UTC.
        """
        super().__init__(
            "send_messages", (NOTIFICATION_REQUESTS,), (NOTIFICATION_QUEUES,), tick_s=_TICK_S
        )
        self._routes = routes
        self._outbox = outbox
        self._retry_for_s = retry_for_s
        self._clock_us = clock_us
        self._queues: dict[int, dict[bytes, NotificationQueue]] = {}
        self._busy: dict[int, dict[bytes, None]] = {}
        """The queues that send, or have notes that wait."""
        self._ticks: dict[int, int] = {}
        self._fresh: dict[int, tuple[Round, set[str]]] = {}
        """The ids of messages that were begun in a round: a message must be in the log before it is
        sent, or a notifier that takes over could not know what was sent."""

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the queues of a partition number."""
        del row_limits  # the queues hold no offsets
        of_topic = rows[NOTIFICATION_QUEUES.name]
        queues = restored(NOTIFICATION_QUEUES, of_topic, _queue)
        self._queues[number] = queues
        self._busy[number] = {key: None for key, queue in queues.items() if not is_empty(queue)}
        self._fresh.pop(number, None)

    def forget(self, number: int) -> None:
        """Drop the queues of a partition number, and break off its attempts."""
        self._queues.pop(number, None)
        self._busy.pop(number, None)
        self._fresh.pop(number, None)
        self._outbox.drop(number)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Add the messages' notes to the queues of their routes."""
        queues = self._queues[this_round.number]
        for message in messages:
            request, tenant = message.record, tenant_of(message)
            if not isinstance(request, NotificationRequest):
                continue
            route = self._routes.find(request.route, tenant)
            if route is None or not may_know(request.note, route):
                continue
            key = encode_key(request.route, tenant)
            known = queues.get(key) or NotificationQueue(
                route=request.route, tenant=tenant, since_us=route.since_us
            )
            queue = with_note(as_of(known, route), request.note, route, self._clock_us())
            self._set(key, known, queue, this_round)

    def tick_s_of(self, number: int) -> float:
        """Return the seconds between two ticks: fewer while there is something to send."""
        return _TICK_S if self._busy.get(number) else _IDLE_TICK_S

    async def tick(self, this_round: Round) -> None:
        """Take the outcomes of attempts, and begin those that are due."""
        number, now_us = this_round.number, self._clock_us()
        queues = self._queues[number]
        for settled in self._outbox.take(number):
            self._settle(settled, this_round)
        self._ticks[number] = self._ticks.get(number, 0) + 1
        sweeps = self._ticks[number] % _SWEEP_TICKS == 0
        for key in tuple(queues if sweeps else self._busy[number]):
            queue = queues[key]
            route = self._routes.find(queue.route, queue.tenant)
            under_way = {
                message.number
                for message in queue.open
                if self._outbox.is_sending(number, key, message_id(queue, message))
            }
            if route is None:
                if not under_way:
                    self._drop(key, this_round)
                continue
            if queue.since_us < route.since_us and under_way:
                continue
            known, queue = queue, as_of(queue, route)
            queue = without_foreign(queue, route, under_way)
            queue = begun(reminded(queue, route, now_us), now_us)
            self._set(key, known, queue, this_round)
            for message in queue.open:
                if (
                    message.number not in under_way
                    and is_due(message, now_us)
                    and not self._is_fresh(message_id(queue, message), this_round)
                ):
                    self._outbox.start(number, key, _outgoing(queue, message), route)

    def _settle(self, settled: Settled, this_round: Round) -> None:
        """Say what became of a message, and remember it."""
        queue = self._queues[this_round.number].get(settled.key)
        message = None if queue is None else _find(queue, settled.message_id)
        if queue is None or message is None:
            return
        outcome, now_us = settled.outcome, self._clock_us()
        later = None
        if not outcome.is_delivered and outcome.may_retry:
            later = postponed(queue, message, now_us, self._retry_for_s, outcome.retry_after_s)
        if outcome.is_delivered:
            state = DeliveryState.DELIVERED
        else:
            state = DeliveryState.ABANDONED if later is None else DeliveryState.RETRYING
        route = self._routes.find(queue.route, queue.tenant)
        delivery = NotificationDelivery(
            route=queue.route,
            message_id=settled.message_id,
            state=state,
            attempts=message.attempts + 1,
            notes=len(message.notes) + message.left_out,
            note_ids=[note.note_id for note in message.notes if _may_show(note, route)],
            detail=outcome.detail,
            owner=_owner(message, route),
            event_time_us=now_us,
        )
        this_round.send(delivery, queue.tenant)
        if later is None:
            later = ended(queue, message, now_us if outcome.is_delivered else None)
        self._set(settled.key, queue, later, this_round)

    def _set(
        self, key: bytes, known: NotificationQueue, queue: NotificationQueue, this_round: Round
    ) -> None:
        """Set a queue, if it changes."""
        if queue is known:
            return
        number = this_round.number
        self._queues[number][key] = queue
        if is_empty(queue):
            self._busy[number].pop(key, None)
        else:
            self._busy[number][key] = None
        this_round.put(NOTIFICATION_QUEUES, key, queue)
        begun_now = queue.open[-1:] if queue.messages > known.messages else ()
        self._note_fresh([message_id(queue, message) for message in begun_now], this_round)

    def _drop(self, key: bytes, this_round: Round) -> None:
        """Delete a queue."""
        del self._queues[this_round.number][key]
        self._busy[this_round.number].pop(key, None)
        this_round.put(NOTIFICATION_QUEUES, key, None)

    def _note_fresh(self, ids: Sequence[str], this_round: Round) -> None:
        known, fresh = self._fresh.get(this_round.number, (None, set[str]()))
        if known is not this_round:
            fresh = set()
        self._fresh[this_round.number] = this_round, fresh | {*ids}

    def _is_fresh(self, name: str, this_round: Round) -> bool:
        known, fresh = self._fresh.get(this_round.number, (None, set[str]()))
        return known is this_round and name in fresh


def _find(queue: NotificationQueue, name: str) -> OpenMessage | None:
    """Return the open message with an id."""
    return next((found for found in queue.open if message_id(queue, found) == name), None)


def _owner(message: OpenMessage, route: NotificationRoute | None) -> str | None:
    """Return whom a message is about; None where it tells of alerts only."""
    if route is None or all(note.subject == Subject.ALERTS for note in message.notes):
        return None
    return route.set_by


def _may_show(note: Note, route: NotificationRoute | None) -> bool:
    """Return whether an event may name a note, since its route is still one of the note's user."""
    if route is None:
        return note.subject == Subject.ALERTS
    return may_know(note, route)


def _queue(row: Record) -> tuple[bytes, NotificationQueue] | None:
    if not isinstance(row, NotificationQueue):
        return None
    return encode_key(row.route, row.tenant), in_present_form(row)


def _outgoing(queue: NotificationQueue, message: OpenMessage) -> OutgoingMessage:
    return OutgoingMessage(
        message_id(queue, message),
        queue.route,
        queue.tenant,
        message.notes,
        message.left_out,
        is_retry=message.attempts > 0,
    )
