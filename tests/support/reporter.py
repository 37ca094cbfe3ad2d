"""A reporter that keeps events in memory instead of writing them to Kafka."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from producers.broadcaster import BlockingBroadcaster
from schemas.events import Event

T = TypeVar("T")


class MemoryReporter:
    """Takes the place of a `BlockingBroadcaster` in a worker."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.tenants: set[str | None] = set()
        self.broadcaster = self

    async def publish(self, event: Event, *, tenant: str | None = None) -> None:
        self.events.append(event)
        self.tenants.add(tenant)

    def run(self, call: Coroutine[object, object, T]) -> T:
        return asyncio.run(call)

    @property
    def blocking(self) -> BlockingBroadcaster:
        return cast("BlockingBroadcaster", self)
