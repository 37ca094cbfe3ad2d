"""A session of a response that is not a connection, such as a list of jobs."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from math import inf

from fastapi import Request

from sse_edge.caller import Caller, tenant_of, user_of
from sse_edge.delivery.admission import Slot
from sse_edge.errors import LogError, UnavailableReason
from sse_edge.failure_log import log_failure
from sse_edge.http.addresses import address_of
from sse_edge.http.dependencies import caller_of
from sse_edge.http.stream_response import client_id_of, reserve
from sse_edge.streams.stream import Stream


@dataclass(eq=False)
class ResponseSession:
    """An open response: the node counts it, and ends it when the node drains."""

    stream: Stream
    address: str
    client_id: str
    caller: Caller | None = None
    slot: Slot | None = None
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the response must end."""

    @property
    def user(self) -> str | None:
        """The user of the client's token, as a text that no other user has; None without one."""
        return user_of(self.caller)

    @property
    def tenant(self) -> str | None:
        """The tenant of the client's token; empty for none, None without a token."""
        return tenant_of(self.caller)

    @property
    def is_open(self) -> bool:
        """Whether the response may go on: the node does not drain, and the token is valid."""
        return not self.leaving.is_set() and self._valid_for_s() > 0

    def leave(self) -> None:
        """End the response."""
        self.leaving.set()

    async def wait(self, *for_: Coroutine[object, object, object], within_s: float = inf) -> None:
        """Wait for coroutines, for the end of the session, or for a time: the first of them."""
        within_s = min(within_s, max(0.0, self._valid_for_s()))
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(coroutine) for coroutine in (self.leaving.wait(), *for_)]
            timeout_s = None if within_s == inf else within_s
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()

    async def until_client_gone(self, request: Request) -> None:
        """Wait until the client has disconnected, and end the response then.

        Args:
            request: the session's; nothing else waits for its messages.
        """
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.leave()

    def unreadable(self, message: str, error: LogError) -> Mapping[str, object]:
        """Return the data of the `error` event that ends the response; log the error.

        Args:
            message: what the client is told.
            error: why Kafka cannot be read, with names of topics, for the log only.
        """
        reason = UnavailableReason.NO_BROKER
        failure_id = log_failure(reason, f"to {self.stream.name} of {self.address}", error)
        return {"reason": reason, "message": message, "id": failure_id}

    def _valid_for_s(self) -> float:
        """Return for how many seconds the client's token is valid."""
        return inf if self.caller is None else self.caller.expires_s - time.time()


def open_session(request: Request, stream: Stream) -> ResponseSession:
    """Return a session for a request.

    Raises:
        TooManyConnections: the address or the user holds as many connections as it may.
        InvalidParameter: the client's name is too long.
    """
    client_id, caller = client_id_of(request), caller_of(request)
    return ResponseSession(
        stream, address_of(request.scope), client_id, caller, slot=reserve(request)
    )
