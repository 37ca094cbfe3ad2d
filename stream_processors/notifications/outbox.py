"""Sends the messages of queues in the background, some at once.

A processor asks for messages to be sent and takes the outcomes when it has the time; none of its
partitions waits for a receiver.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple, Protocol, Self
from weakref import WeakValueDictionary

from schemas.events import NotificationRoute
from stream_processors.notifications.destinations import Outcome, failed
from stream_processors.notifications.messages import OutgoingMessage

_FREE_PART = 4
"""A tenant, and messages that are tried again, leave others the slots that remain if all are
divided by this."""

logger = logging.getLogger(__name__)


class Sender(Protocol):
    """Tries to send one message."""

    async def send(self, message: OutgoingMessage, route: NotificationRoute) -> Outcome:
        """Try once to send a message by a route."""
        ...


class Settled(NamedTuple):
    """The outcome of an attempt."""

    key: bytes
    """The key of the route's queue."""
    message_id: str
    outcome: Outcome


class Outbox:
    """The attempts that are under way. Use it in `async with`."""

    def __init__(self, sender: Sender, at_once: int) -> None:
        """Send by a sender, so many messages at once."""
        self._sender = sender
        self._slots = asyncio.Semaphore(at_once)
        self._tenant_max = at_once - at_once // _FREE_PART
        self._retries = asyncio.Semaphore(self._tenant_max)
        self._of_tenants = WeakValueDictionary[str, asyncio.Semaphore]()
        """The slots that each tenant may have; those without messages are forgotten."""
        self._group = asyncio.TaskGroup()
        self._running: dict[tuple[int, bytes, str], asyncio.Task[None]] = {}
        """By partition number, the key of the queue, and the message's id."""
        self._settled: dict[int, list[Settled]] = {}

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *reason: object) -> None:
        for task in self._running.values():
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def is_sending(self, number: int, key: bytes, message_id: str) -> bool:
        """Return whether a message of a queue is under way, or has an outcome to be taken."""
        return (number, key, message_id) in self._running or any(
            (settled.key, settled.message_id) == (key, message_id)
            for settled in self._settled.get(number, ())
        )

    def start(
        self, number: int, key: bytes, message: OutgoingMessage, route: NotificationRoute
    ) -> None:
        """Begin to send a message of a queue of a partition number."""
        task = self._group.create_task(self._send(number, key, message, route))
        self._running[number, key, message.message_id] = task

    def take(self, number: int) -> Sequence[Settled]:
        """Return the outcomes of a partition number since the last call."""
        return self._settled.pop(number, [])

    def drop(self, number: int) -> None:
        """Break off the attempts of a partition number, which another notifier has now."""
        self._settled.pop(number, None)
        for place in [place for place in self._running if place[0] == number]:
            self._running.pop(place).cancel()

    async def _send(
        self, number: int, key: bytes, message: OutgoingMessage, route: NotificationRoute
    ) -> None:
        try:
            retries = self._retries if message.is_retry else nullcontext()
            async with self._slots_of(message.tenant), retries, self._slots:
                outcome = await self._sender.send(message, route)
        except Exception as error:
            # Whatever it is, it is about one message, and the others go on.
            logger.exception("message %s of the route %r", message.message_id, route.name)
            outcome = failed(f"the notifier failed: {type(error).__name__}")
        place = number, key, message.message_id
        if self._running.get(place) is not asyncio.current_task():
            return  # it was broken off, and has ended in order nevertheless
        del self._running[place]
        settled = Settled(key, message.message_id, outcome)
        self._settled.setdefault(number, []).append(settled)

    def _slots_of(self, tenant: str | None) -> AbstractAsyncContextManager[None]:
        """Return the slots of a tenant, so that its hanging receivers hold up no other tenant."""
        if tenant is None:
            return nullcontext()
        slots = self._of_tenants.get(tenant)
        if slots is None:
            slots = self._of_tenants[tenant] = asyncio.Semaphore(self._tenant_max)
        return slots
