"""`tapewire task`: requests training tasks, follows them, and compares polling with streaming."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from cli.answers import Answer
from cli.edge_client import authorization, no_edge_at
from cli.errors import CommandError
from cli.responses import check

POLL_S = 2.0
"""The seconds between two polls, as polling programs do it."""

_ENDS = frozenset({"SUCCESS", "FAILURE"})
_RECONNECT_S = 1.0
_CONNECT_S = 3.0
_LOSSES_MAX = 30
_QUIET_S = 30.0
"""The read timeout; a live stream sends a heartbeat every five seconds."""

Status = dict[str, Any]


@dataclass(slots=True)
class Cost:
    """The cost of following a task, and the times at which changes were seen."""

    requests: int = 0
    bytes: int = 0
    """The bytes of headers and bodies."""
    seen: list[tuple[float, Status]] = field(default_factory=list)
    """Each status with the time when it arrived, in seconds since 1970."""

    def count(self, response: httpx.Response) -> None:
        """Count the headers of a response."""
        self.requests += 1
        self.bytes += sum(len(name) + len(value) + 4 for name, value in response.headers.raw)


async def request(url: str, meter_id: str, meter_type: str, bearer: str | None = None) -> str:
    """Request a training, and return the new task's id.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    async with _client(url, bearer) as client:
        body = {"meter_id": meter_id, "meter_type": meter_type}
        response = await _response(url, client.post("/trainmodel/", json=body))
    return str(response.json()["task_id"])


async def follow(
    url: str, task_id: str, cost: Cost | None = None, bearer: str | None = None
) -> AsyncGenerator[Status]:
    """Yield each status of a task to its end, and resume after a lost connection.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge has answered at the address for a while.
    """
    cost = cost or Cost()
    last_id, losses = "", 0
    async with _client(url, bearer) as client:
        while True:
            try:
                headers = {"Last-Event-ID": last_id} if last_id else {}
                path = f"/trainmodel/stream/{task_id}"
                async with aconnect_sse(client, "GET", path, headers=headers) as source:
                    cost.count(source.response)
                    if source.response.status_code == httpx.codes.NO_CONTENT:
                        return
                    if source.response.is_error:
                        await source.response.aread()
                    check(source.response)
                    async for event in source.aiter_sse():
                        cost.bytes += len(event.data) + len(event.id) + len("data: \nid: \n\n")
                        last_id, losses = event.id or last_id, 0
                        # The library also yields blocks that only move the cursor.
                        status = json.loads(event.data or "{}")
                        if "status" in status:
                            cost.seen.append((time.time(), status))
                            yield status
                            if status["status"] in _ENDS:
                                return
            except httpx.TransportError as error:
                losses += 1
                if losses > _LOSSES_MAX:
                    raise no_edge_at(url, error) from error
            await asyncio.sleep(_RECONNECT_S)


async def poll(url: str, task_id: str, cost: Cost, bearer: str | None = None) -> None:
    """Poll the status of a task to its end.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    async with _client(url, bearer) as client:
        while True:
            response = await _response(url, client.get(f"/trainmodel/status/{task_id}"))
            cost.count(response)
            cost.bytes += len(response.content)
            status = response.json()
            cost.seen.append((time.time(), status))
            if status["status"] in _ENDS:
                return
            await asyncio.sleep(POLL_S)


async def compare(
    url: str, task_id: str, say: Callable[[str], None], bearer: str | None = None
) -> Answer:
    """Poll and stream a task at the same time to its end, and return the cost of each.

    Args:
        url: the edge's address.
        task_id: the task.
        say: prints a line for each status in the meantime.
        bearer: the caller's token; None for none.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    polling, streaming = Cost(), Cost()

    async def stream() -> None:
        async for status in follow(url, task_id, streaming, bearer):
            say(line_of(status))

    failed: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(poll(url, task_id, polling, bearer))
            both.create_task(stream())
    except* CommandError as errors:
        failed += errors.exceptions
    if failed:
        raise failed[0]
    changes = [_updated_s(status) for _, status in streaming.seen]
    late = [f"{staleness_s(cost, changes) * 1000:,.0f} ms" for cost in (polling, streaming)]
    lines = [
        "",
        f"{'':<22}{'polling, every 2 s':>20}{'streaming':>14}",
        f"{'requests':<22}{polling.requests:>20,}{streaming.requests:>14,}",
        f"{'bytes':<22}{polling.bytes:>20,}{streaming.bytes:>14,}",
        f"{'changes seen':<22}{_distinct(polling):>20,}{_distinct(streaming):>14,}",
        f"{'mean staleness':<22}{late[0]:>20}{late[1]:>14}",
    ]
    costs = {"polling": polling, "streaming": streaming}
    document = {
        name: {
            "requests": cost.requests,
            "bytes": cost.bytes,
            "changes_seen": _distinct(cost),
            "mean_staleness_s": staleness_s(cost, changes),
        }
        for name, cost in costs.items()
    }
    return Answer({"task_id": task_id, **document}, lines)


def staleness_s(cost: Cost, changes_s: list[float]) -> float:
    """Return the mean time from a change to the arrival of it, or of a later one, in seconds.

    Args:
        cost: the statuses with their times.
        changes_s: the times of the changes, in seconds since 1970.
    """
    late = []
    for change_s in changes_s:
        known = [at for at, status in cost.seen if _updated_s(status) >= change_s]
        if known:
            late.append(max(0.0, known[0] - change_s))
    return sum(late) / len(late) if late else 0.0


def line_of(status: Status) -> str:
    """Return a status as a line of text."""
    text = status["error"] or status["message"]
    return f"{status['status']:<15}{status['progress']:>5}%  {text}"


def _distinct(cost: Cost) -> int:
    return len({status["updated_at"] for _, status in cost.seen})


def _updated_s(status: Status) -> float:
    return datetime.fromisoformat(status["updated_at"]).timestamp()


def _client(url: str, bearer: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url,
        headers=authorization(bearer),
        timeout=httpx.Timeout(10.0, connect=_CONNECT_S, read=_QUIET_S),
    )


async def _response(url: str, request: Awaitable[httpx.Response]) -> httpx.Response:
    try:
        response = await request
    except httpx.TransportError as error:
        raise no_edge_at(url, error) from error
    check(response)
    return response
