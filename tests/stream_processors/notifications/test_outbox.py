"""Attempts in the background: none waits for another, and none is lost or counted twice."""

import asyncio
from dataclasses import replace

from schemas.events import NotificationRoute
from stream_processors.notifications.destinations import Outcome, delivered, failed
from stream_processors.notifications.messages import OutgoingMessage
from stream_processors.notifications.outbox import Outbox, Settled
from tests.stream_processors.notifications.conftest import note, route


class FakeSender:
    """Delivers a message when its route may go on."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.running = self.most = 0

    async def send(self, message: OutgoingMessage, route: NotificationRoute) -> Outcome:
        del message
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if route.name == "bad":
                raise ZeroDivisionError
            await asyncio.sleep(0)
            await self.gates.setdefault(route.name, asyncio.Event()).wait()
        finally:
            self.running -= 1
        return delivered(f"by {route.name}")


def message(name: str, tenant: str | None = None) -> OutgoingMessage:
    return OutgoingMessage(f"m-{name}", name, tenant, [note()])


async def settle(outbox: Outbox, number: int, count: int) -> list[Settled]:
    found: list[Settled] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            await asyncio.sleep(0)
            found += outbox.take(number)
    return found


async def test_one_receiver_that_hangs_holds_up_no_other() -> None:
    sender = FakeSender()
    async with Outbox(sender, 10) as outbox:
        for name in ("slow", "fast"):
            outbox.start(1, name.encode(), message(name), route(name))
        sender.gates["fast"] = asyncio.Event()
        sender.gates["fast"].set()
        (settled,) = await settle(outbox, 1, 1)
        assert settled == Settled(b"fast", "m-fast", delivered("by fast"))
        assert outbox.is_sending(1, b"slow", "m-slow")
        assert not outbox.is_sending(1, b"fast", "m-fast")
        assert not outbox.is_sending(2, b"slow", "m-slow")


async def test_only_so_many_are_sent_at_once() -> None:
    sender = FakeSender()
    async with Outbox(sender, 3) as outbox:
        for number in range(10):
            name = str(number)
            sender.gates[name] = asyncio.Event()
            sender.gates[name].set()
            outbox.start(1, name.encode(), message(name), route(name))
        await settle(outbox, 1, 10)
    assert sender.most == 3


async def test_a_failure_of_the_sender_is_an_outcome_of_its_message() -> None:
    async with Outbox(FakeSender(), 10) as outbox:
        outbox.start(1, b"bad", message("bad"), route("bad"))
        (settled,) = await settle(outbox, 1, 1)
    assert (settled.outcome.is_delivered, settled.outcome.may_retry) == (False, True)
    assert "ZeroDivisionError" in settled.outcome.detail


async def test_attempts_of_a_lost_partition_are_broken_off() -> None:
    sender = FakeSender()
    async with Outbox(sender, 10) as outbox:
        outbox.start(1, b"mine", message("mine"), route("mine"))
        outbox.start(2, b"kept", message("kept"), route("kept"))
        await asyncio.sleep(0)
        outbox.drop(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not outbox.is_sending(1, b"mine", "m-mine")
        sender.gates["kept"].set()
        assert len(await settle(outbox, 2, 1)) == 1
        assert outbox.take(1) == []


class StubbornSender:
    """Ends in order although it is cancelled, as a library may whose own timer runs out."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def send(self, message: OutgoingMessage, route: NotificationRoute) -> Outcome:
        del route
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            return failed("no answer")
        return delivered(message.message_id)


async def test_an_attempt_that_ends_after_it_was_broken_off_changes_nothing() -> None:
    sender = StubbornSender()
    async with Outbox(sender, 10) as outbox:
        outbox.start(1, b"mine", message("first"), route("mine"))
        await asyncio.sleep(0)
        outbox.drop(1)
        outbox.start(1, b"mine", message("second"), route("mine"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert outbox.is_sending(1, b"mine", "m-second")
        assert outbox.take(1) == []
        sender.gate.set()
        assert await settle(outbox, 1, 1) == [Settled(b"mine", "m-second", delivered("m-second"))]


async def test_the_hanging_receivers_of_a_tenant_hold_up_no_other_tenant() -> None:
    sender = FakeSender()
    async with Outbox(sender, 4) as outbox:
        for number in range(20):
            name = f"slow-{number}"
            outbox.start(1, name.encode(), message(name, "acme"), route(name))
        sender.gates["fast"] = asyncio.Event()
        sender.gates["fast"].set()
        outbox.start(1, b"fast", message("fast", "other"), route("fast"))
        (settled,) = await settle(outbox, 1, 1)
        assert settled.key == b"fast"
        assert sender.most == 4


async def test_messages_that_are_tried_again_leave_slots_for_new_ones() -> None:
    sender = FakeSender()
    async with Outbox(sender, 4) as outbox:
        for number in range(20):
            again = replace(message(f"slow-{number}"), is_retry=True)
            outbox.start(1, b"slow", again, route(f"slow-{number}"))
        sender.gates["fast"] = asyncio.Event()
        sender.gates["fast"].set()
        outbox.start(1, b"fast", message("fast"), route("fast"))
        (settled,) = await settle(outbox, 1, 1)
        assert settled.key == b"fast"
        assert sender.most == 4
