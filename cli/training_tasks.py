"""Training tasks on the command line: ask for one, follow it, compare polling with streaming."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from cli.answers import reason_of
from infra.errors import EdgeUnreachable, InfraError, TaskRefused

POLL_S = 2.0
"""How often programs that poll are used to ask."""

_ENDS = frozenset({"SUCCESS", "FAILURE"})
_COME_BACK_S = 1.0
_LOSSES_MAX = 30
_QUIET_S = 30.0
"""A live stream says something every five seconds."""

Status = dict[str, Any]


@dataclass(slots=True)
class Cost:
    """What it took to follow a task, and how late one knew."""

    requests: int = 0
    bytes: int = 0
    """Of bodies and headers, as they came in."""
    seen: list[tuple[float, Status]] = field(default_factory=list)
    """What came, and when, in seconds since 1970."""

    def count(self, response: httpx.Response) -> None:
        """Count a response's head."""
        self.requests += 1
        self.bytes += sum(len(name) + len(value) + 4 for name, value in response.headers.raw)


async def ask(url: str, meter_id: str, meter_type: str) -> str:
    """Ask for a training; the new task's id.

    Raises:
        TaskRefused: the edge says why.
        EdgeUnreachable: there is none at the address.
    """
    async with _client(url) as client:
        wanted = {"meter_id": meter_id, "meter_type": meter_type}
        answer = await _answered(client.post("/trainmodel/", json=wanted))
    return str(answer.json()["task_id"])


async def follow(url: str, task_id: str, cost: Cost | None = None) -> AsyncGenerator[Status]:
    """Each thing that a task says of itself, to its end; a lost connection is taken up again.

    Raises:
        TaskRefused: the edge says why.
        EdgeUnreachable: there has been none at the address for a while.
    """
    cost = cost or Cost()
    last_id, losses = "", 0
    async with _client(url) as client:
        while True:
            try:
                headers = {"Last-Event-ID": last_id} if last_id else {}
                path = f"/trainmodel/stream/{task_id}"
                async with aconnect_sse(client, "GET", path, headers=headers) as source:
                    cost.count(source.response)
                    if source.response.status_code == httpx.codes.NO_CONTENT:
                        return
                    await _check(source.response)
                    async for event in source.aiter_sse():
                        cost.bytes += len(event.data) + len(event.id) + len("data: \nid: \n\n")
                        last_id, losses = event.id or last_id, 0
                        # The library hands on blocks that only move the cursor, too.
                        status = json.loads(event.data or "{}")
                        if "status" in status:
                            cost.seen.append((time.time(), status))
                            yield status
                            if status["status"] in _ENDS:
                                return
            except httpx.TransportError as error:
                losses += 1
                if losses > _LOSSES_MAX:
                    raise EdgeUnreachable(f"no edge answers at {url}: {error!r}") from error
            await asyncio.sleep(_COME_BACK_S)


async def poll(url: str, task_id: str, cost: Cost) -> None:
    """Ask how a task stands, again and again, to its end.

    Raises:
        TaskRefused: the edge says why.
        EdgeUnreachable: there is none at the address.
    """
    async with _client(url) as client:
        while True:
            answer = await _answered(client.get(f"/trainmodel/status/{task_id}"))
            cost.count(answer)
            cost.bytes += len(answer.content)
            status = answer.json()
            cost.seen.append((time.time(), status))
            if status["status"] in _ENDS:
                return
            await asyncio.sleep(POLL_S)


async def compare(url: str, task_id: str, say: Callable[[str], None]) -> None:
    """Poll a task and stream it, at the same time, to its end; print what each took.

    Raises:
        TaskRefused: the edge says why.
        EdgeUnreachable: there is none at the address.
    """
    polling, streaming = Cost(), Cost()

    async def stream() -> None:
        async for status in follow(url, task_id, streaming):
            say(line_of(status))

    failed: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(poll(url, task_id, polling))
            both.create_task(stream())
    except* InfraError as errors:
        failed += errors.exceptions
    if failed:
        raise failed[0]
    changes = [_updated_s(status) for _, status in streaming.seen]
    say("")
    say(f"{'':<22}{'polling, every 2 s':>20}{'streaming':>14}")
    say(f"{'requests':<22}{polling.requests:>20,}{streaming.requests:>14,}")
    say(f"{'bytes':<22}{polling.bytes:>20,}{streaming.bytes:>14,}")
    say(f"{'changes seen':<22}{_told_apart(polling):>20,}{_told_apart(streaming):>14,}")
    late = [f"{staleness_s(cost, changes) * 1000:,.0f} ms" for cost in (polling, streaming)]
    say(f"{'mean staleness':<22}{late[0]:>20}{late[1]:>14}")


def staleness_s(cost: Cost, changes_s: list[float]) -> float:
    """How long after a change it, or a later one, was known; the mean over all changes.

    Args:
        cost: what was seen, and when.
        changes_s: when the task changed, in seconds since 1970.
    """
    late = []
    for change_s in changes_s:
        known = [at for at, status in cost.seen if _updated_s(status) >= change_s]
        if known:
            late.append(max(0.0, known[0] - change_s))
    return sum(late) / len(late) if late else 0.0


def line_of(status: Status) -> str:
    """A status, for people."""
    text = status["error"] or status["message"]
    return f"{status['status']:<15}{status['progress']:>5}%  {text}"


def _told_apart(cost: Cost) -> int:
    return len({status["updated_at"] for _, status in cost.seen})


def _updated_s(status: Status) -> float:
    return datetime.fromisoformat(status["updated_at"]).timestamp()


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(10.0, read=_QUIET_S))


async def _answered(asked: Any) -> httpx.Response:
    try:
        answer: httpx.Response = await asked
    except httpx.TransportError as error:
        raise EdgeUnreachable(f"no edge answers: {error!r}; `tapewire up` starts one") from error
    await _check(answer)
    return answer


async def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    await answer.aread()
    raise TaskRefused(reason_of(answer))
