"""The notifier's processors without Kafka: what they write, and when they send."""

from collections.abc import Iterable
from typing import Any, cast

from schemas.events import (
    NotificationDelivery,
    NotificationQueue,
    NotificationRequest,
    NotificationRoute,
)
from schemas.run_ids import Owner, new_id
from schemas.topics import (
    NOTIFICATION_DELIVERIES,
    NOTIFICATION_QUEUES,
    NOTIFICATION_REQUESTS,
    RISK_ALERTS,
)
from stream_processors.notifications.destinations import Outcome, delivered, failed, refused
from stream_processors.notifications.messages import OutgoingMessage
from stream_processors.notifications.outbox import Outbox, Settled
from stream_processors.notifications.processors import RouteEvents, SendMessages
from stream_processors.processor import Round
from tests.stream_processors.notifications.conftest import AT_US, alert, note, route
from tests.support.messages import FakeMessage, admitted, message
from tests.support.processor_bench import NUMBER, ProcessorBench


class FakeRoutes:
    """The routes by tenant and name."""

    def __init__(self, *routes: NotificationRoute, tenant: str | None = None) -> None:
        self.table = {(tenant, route.name): route for route in routes}

    def find(self, name: str, tenant: str | None) -> NotificationRoute | None:
        return self.table.get((tenant, name))

    def of(self, tenant: str | None) -> Iterable[NotificationRoute]:
        return [route for (owner, _), route in self.table.items() if owner == tenant]


class FakeOutbox:
    """Keeps the attempts, whose outcomes the test decides."""

    def __init__(self) -> None:
        self.started: list[OutgoingMessage] = []
        self.under_way: dict[tuple[bytes, str], OutgoingMessage] = {}
        self.settled: list[Settled] = []

    def is_sending(self, number: int, key: bytes, message_id: str) -> bool:
        assert number == NUMBER
        return (key, message_id) in self.under_way

    def start(
        self, number: int, key: bytes, message: OutgoingMessage, route: NotificationRoute
    ) -> None:
        assert number == NUMBER
        assert message.route == route.name
        self.started.append(message)
        self.under_way[key, message.message_id] = message

    def settle(self, outcome: Outcome, *note_ids: str) -> None:
        """Settle the messages that are under way, or those with some notes only."""
        for (key, message_id), sent in list(self.under_way.items()):
            if not note_ids or {told.note_id for told in sent.notes} & {*note_ids}:
                self.settled.append(Settled(key, message_id, outcome))
                del self.under_way[key, message_id]

    def take(self, number: int) -> list[Settled]:
        assert number == NUMBER
        settled, self.settled = self.settled, []
        return settled

    def drop(self, number: int) -> None:
        assert number == NUMBER
        self.under_way.clear()
        self.settled.clear()


class Clock:
    """The time of a test."""

    def __init__(self) -> None:
        self.us = AT_US

    def __call__(self) -> int:
        return self.us

    def pass_s(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


class Sending:
    """The processor that sends, on a bench."""

    def __init__(self, *routes: NotificationRoute, tenant: str | None = None) -> None:
        self.routes = FakeRoutes(*routes, tenant=tenant)
        self.outbox, self.clock = FakeOutbox(), Clock()
        self.tenant = tenant
        self.bench = self.new_bench()

    def new_bench(self) -> ProcessorBench:
        outbox = cast("Outbox", self.outbox)
        return ProcessorBench(SendMessages(self.routes, outbox, 3_600.0, self.clock))

    async def request(self, *numbers: int, **values: Any) -> None:
        requests = [
            message(
                NOTIFICATION_REQUESTS,
                NotificationRequest(route="desk", note=note(number, f"e{number}", **values)),
                tenant=self.tenant or "",
            )
            for number in numbers
        ]
        await self.bench.run(requests)

    async def tick(self) -> list[NotificationDelivery]:
        journal = await self.bench.tick()
        return journal.sent(NOTIFICATION_DELIVERIES, NotificationDelivery)

    def row(self) -> NotificationQueue:
        (row,) = self.bench.rows()[NOTIFICATION_QUEUES.name].values()
        assert isinstance(row, NotificationQueue)
        return row

    def restart(self) -> None:
        """As another notifier would take over from what is in the log."""
        rows = self.bench.rows()
        self.bench.processor.forget(NUMBER)
        journal = self.bench.journal
        self.bench = self.new_bench()
        self.bench.journal = journal
        self.bench.recover(rows)


async def test_events_are_requested_of_the_routes_of_their_tenant() -> None:
    routes = FakeRoutes(route("desk"), route("jobs", subjects=["jobs"]), tenant="acme")
    bench = ProcessorBench(RouteEvents(routes))
    journal = await bench.run(
        [
            message(RISK_ALERTS, alert(), tenant="acme"),
            message(RISK_ALERTS, alert(), tenant="other"),
            message(RISK_ALERTS, alert()),
            message(RISK_ALERTS, alert("acknowledged"), tenant="acme"),
        ]
    )
    (request,) = journal.sent(NOTIFICATION_REQUESTS, NotificationRequest)
    assert (request.route, request.note.note_id) == ("desk", "a:raised")
    assert journal.ended_early == [True]


async def test_nothing_is_sent_that_happened_before_its_route_was_set() -> None:
    received = message(RISK_ALERTS, alert())
    logged_us = round(received.timestamp * 1e6)
    for since_us, count in ((logged_us, 1), (logged_us + 1, 0)):
        bench = ProcessorBench(RouteEvents(FakeRoutes(route(since_us=since_us))))
        journal = await bench.run([received])
        assert len(journal.sent(NOTIFICATION_REQUESTS, NotificationRequest)) == count


async def test_a_message_is_in_the_log_before_it_is_sent() -> None:
    sending = Sending(route())
    await sending.request(1)
    await sending.tick()
    assert sending.row().open
    assert not sending.outbox.started
    await sending.tick()
    assert [sent.count for sent in sending.outbox.started] == [1]


async def test_a_round_with_several_ticks_sends_nothing_that_it_has_begun() -> None:
    sending = Sending(route())
    await sending.request(1)
    this_round = Round(NUMBER, "")
    for _ in range(3):
        await sending.bench.processor.tick(this_round)
    assert not sending.outbox.started
    sending.bench.journal.add(this_round)
    await sending.tick()
    assert len(sending.outbox.started) == 1


async def test_ticks_are_rarer_while_there_is_nothing_to_send() -> None:
    sending = Sending(route())
    idle_s = sending.bench.processor.tick_s_of(NUMBER)
    await sending.request(1)
    assert sending.bench.processor.tick_s_of(NUMBER) == sending.bench.processor.tick_s
    assert sending.bench.processor.tick_s_of(NUMBER) < idle_s
    assert sending.bench.processor.tick_s_of(NUMBER + 1) == idle_s


async def test_a_delivered_message_is_reported_and_forgotten() -> None:
    sending = Sending(route(set_by="ann"), tenant="acme")
    await sending.request(1, 2)
    await sending.tick()
    await sending.tick()
    sending.outbox.settle(delivered("answered 204"))
    (event,) = await sending.tick()
    assert (event.state, event.attempts, event.notes) == ("delivered", 1, 2)
    assert event.note_ids == ["n1", "n2"]
    assert event.owner is None
    assert not sending.row().open
    assert list(sending.row().episodes) == ["e1", "e2"]
    assert await sending.tick() == []
    assert len(sending.outbox.started) == 1


async def test_what_is_about_a_users_jobs_is_shown_to_that_user() -> None:
    sending = Sending(route(set_by="ann"))
    await sending.request(1, subject="jobs")
    await sending.tick()
    await sending.tick()
    sending.outbox.settle(delivered(""))
    (event,) = await sending.tick()
    assert event.owner == "ann"


async def test_a_failed_message_is_tried_again_with_the_same_id_and_then_given_up() -> None:
    sending = Sending(route())
    await sending.request(1)
    await sending.tick()
    await sending.tick()
    states = []
    while True:
        sending.outbox.settle(failed("answered 503"))
        (event,) = await sending.tick()
        states.append(event.state)
        if event.state == "abandoned":
            break
        await sending.tick()
        assert len(sending.outbox.started) == len(states)  # it is not time yet
        sending.clock.us = sending.row().open[0].due_us
        await sending.tick()
    assert states == ["retrying"] * (len(states) - 1) + ["abandoned"]
    assert len({sent.message_id for sent in sending.outbox.started}) == 1
    assert len(states) == len(sending.outbox.started) == event.attempts > 10
    assert not sending.row().open


async def test_a_refused_message_is_given_up_at_once() -> None:
    sending = Sending(route())
    await sending.request(1)
    await sending.tick()
    await sending.tick()
    sending.outbox.settle(refused("answered 410"))
    (event,) = await sending.tick()
    assert (event.state, event.detail) == ("abandoned", "answered 410")


async def test_a_notifier_that_takes_over_sends_the_same_message_again() -> None:
    sending = Sending(route(digest_s=5.0))
    await sending.request(1)
    sending.clock.pass_s(5)
    await sending.tick()
    await sending.tick()
    await sending.request(2)
    sending.restart()
    await sending.tick()
    first, second = sending.outbox.started
    assert first.message_id == second.message_id
    assert [n.note_id for n in second.notes] == ["n1"]
    sending.outbox.settle(delivered(""))
    await sending.tick()
    sending.clock.pass_s(5)
    await sending.tick()
    await sending.tick()
    assert [n.note_id for n in sending.outbox.started[2].notes] == ["n2"]


async def test_an_outcome_of_an_earlier_message_changes_nothing() -> None:
    sending = Sending(route())
    await sending.request(1)
    await sending.tick()
    await sending.tick()
    sending.outbox.settled.append(Settled(b"desk", "another", delivered("")))
    assert await sending.tick() == []
    assert sending.row().open


def told(sending: Sending) -> list[list[str]]:
    return [[item.note_id for item in sent.notes] for sent in sending.outbox.started]


async def test_a_failing_message_holds_up_neither_a_test_nor_a_later_alert() -> None:
    sending = Sending(route())
    await sending.request(1)
    await sending.tick()
    await sending.tick()
    await sending.request(2, subject="test")  # while the first is under way
    await sending.tick()
    assert told(sending) == [["n1"], ["n2"]]
    sending.outbox.settle(failed("answered 500"), "n1")
    sending.outbox.settle(delivered(""), "n2")
    assert {event.state for event in await sending.tick()} == {"retrying", "delivered"}
    await sending.tick()
    assert told(sending) == [["n1"], ["n2"], ["n1"]]  # the receiver is there again
    sending.outbox.settle(failed("answered 500"))
    await sending.tick()
    await sending.request(3)
    await sending.tick()
    await sending.tick()
    assert told(sending)[3:] == [["n3"]]
    assert [sent.is_retry for sent in sending.outbox.started] == [False, False, True, False]
    sending.outbox.settle(delivered(""), "n3")
    [event] = await sending.tick()
    assert (event.state, event.note_ids) == ("delivered", ["n3"])
    assert [told.note_id for message in sending.row().open for told in message.notes] == ["n1"]


async def test_a_test_is_in_the_log_before_it_is_sent() -> None:
    sending = Sending(route())
    this_round = Round(NUMBER, "")
    request = NotificationRequest(route="desk", note=note(1, subject="test"))
    received = [admitted(message(NOTIFICATION_REQUESTS, request))]
    await sending.bench.processor.process(received, this_round)
    await sending.bench.processor.tick(this_round)
    assert not sending.outbox.started
    sending.bench.journal.add(this_round)
    await sending.tick()
    assert told(sending) == [["n1"]]


async def test_open_alerts_are_reminded_of_until_they_are_acknowledged() -> None:
    sending = Sending(route(remind_s=600.0))
    await sending.request(1)
    for _ in range(3):
        await sending.tick()
        await sending.tick()
        sending.outbox.settle(delivered(""))
        await sending.tick()
        sending.restart()
        sending.clock.pass_s(600)
    assert [sent.text for sent in sending.outbox.started] == [
        "[high] note 1",
        *["[high] still open: note 1"] * 2,
    ]
    assert len({sent.message_id for sent in sending.outbox.started}) == 3
    await sending.request(1, state="acknowledged")
    await sending.tick()
    await sending.tick()
    assert len(sending.outbox.started) == 3
    assert not sending.row().reminders


async def test_acknowledgements_go_to_routes_that_remind() -> None:
    routes = FakeRoutes(route("desk"), route("night", remind_s=600.0, severities=["critical"]))
    bench = ProcessorBench(RouteEvents(routes))
    states = ("acknowledged", "deescalated")
    journal = await bench.run([message(RISK_ALERTS, alert(state)) for state in states])
    requests = journal.sent(NOTIFICATION_REQUESTS, NotificationRequest)
    assert [(item.route, item.note.state) for item in requests] == [
        ("night", state) for state in states
    ]


async def test_a_closed_route_drops_what_waits() -> None:
    sending = Sending(route())
    await sending.request(1)
    sending.routes.table.clear()
    await sending.tick()
    assert sending.bench.rows()[NOTIFICATION_QUEUES.name] == {}
    await sending.request(2)
    assert sending.bench.rows()[NOTIFICATION_QUEUES.name] == {}


async def test_another_record_of_the_topic_is_passed_over() -> None:
    sending = Sending(route())
    received: FakeMessage = message(RISK_ALERTS, alert())
    await sending.bench.run([received])
    assert sending.bench.rows()[NOTIFICATION_QUEUES.name] == {}


async def test_a_route_that_is_made_again_sends_nothing_of_the_one_before() -> None:
    sending = Sending(route(digest_s=60.0))
    await sending.request(1)
    sending.routes.table[None, "desk"] = route(digest_s=0.0, since_us=AT_US + 1)
    sending.clock.pass_s(60)
    await sending.tick()
    assert not sending.row().waiting
    assert not sending.row().open
    await sending.request(1)  # an alert that only the earlier route has told of
    await sending.tick()
    await sending.tick()
    assert [sent.count for sent in sending.outbox.started] == [1]


async def test_no_message_of_a_route_that_is_made_again_has_the_id_of_an_earlier_one() -> None:
    sending = Sending(route())
    for since_us in (0, 1):
        sending.routes.table[None, "desk"] = route(since_us=since_us)
        await sending.request(1)
        await sending.tick()
        await sending.tick()
        sending.outbox.settle(delivered(""))
        await sending.tick()
        sending.routes.table.clear()
        for _ in range(300):
            await sending.tick()
        assert sending.bench.rows()[NOTIFICATION_QUEUES.name] == {}
        sending.clock.pass_s(1)
    first, second = sending.outbox.started
    assert first.message_id != second.message_id


async def test_what_waits_is_dropped_at_once_with_its_route() -> None:
    sending = Sending(route(digest_s=60.0))
    await sending.request(1)
    sending.routes.table.clear()
    await sending.tick()
    assert sending.bench.rows()[NOTIFICATION_QUEUES.name] == {}


async def test_a_user_who_replaces_a_route_gets_no_jobs_of_the_user_before() -> None:
    ann = Owner(None, "ann")
    job = new_id(AT_US, ann)
    sending = Sending(route(set_by="ann", digest_s=60.0))
    await sending.request(1, subject="jobs", entity_id=job)
    await sending.request(2)
    sending.routes.table[None, "desk"] = route(set_by="bob")
    await sending.request(3, subject="jobs", entity_id=job)
    sending.clock.pass_s(60)
    await sending.tick()
    await sending.tick()
    (sent,) = sending.outbox.started
    assert [told.note_id for told in sent.notes] == ["n2"]


async def test_no_event_names_the_jobs_of_a_user_whose_route_is_gone() -> None:
    for later in (None, route(set_by="bob")):
        sending = Sending(route(set_by="ann"))
        await sending.request(1, subject="jobs", entity_id=new_id(AT_US, Owner(None, "ann")))
        await sending.tick()
        await sending.tick()
        sending.routes.table.clear()
        if later is not None:
            sending.routes.table[None, "desk"] = later
        sending.outbox.settle(delivered(""))
        (event,) = await sending.tick()
        assert event.note_ids == []
