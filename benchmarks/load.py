"""The load: producers that write at a rate, and clients that read, count and take the time.

Each side is a process of its own, so that what is measured is the server. Clients are bare
protocols on uvloop that look only for what they count, since a thousand of them share a core.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection as Pipe
from struct import Struct
from typing import Any

import uvloop
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import TrainingProgress

_SPAWN = multiprocessing.get_context("spawn")
_EVENT = b"event: training_progress\n"
_SENT = b'"sent":'
_ID = b"\nid: "
_TIME = Struct("<d")
_TICK_S = 0.005
_POLL_EACH = 500
_QUIET = 100.0
_LATENCIES_MAX = 200_000


def event(task: str, padding: int = 60) -> bytes:
    """An event that says when it was made; some 250 bytes as JSON."""
    before, after = _around_the_time(task, padding)
    return before + _TIME.pack(time.time()) + after


@lru_cache(maxsize=1 << 14)
def _around_the_time(task: str, padding: int) -> tuple[bytes, bytes]:
    """The bytes of an event before and after its time: its producer shares a core with others."""
    sent = 1234567890.123
    whole = encode(
        TrainingProgress(
            task_id=task,
            progress=50.0,
            status="running",
            message="x" * padding,
            metrics={"sent": sent},
            event_time_us=0,
        )
    )
    before, after = whole.split(_TIME.pack(sent))
    return before, after


@dataclass(frozen=True, slots=True)
class Produced:
    """What to write."""

    servers: str
    topic: str
    rate: float
    """Events a second; 0 for as fast as it goes."""
    seconds: float = 0.0
    count: int = 0
    tasks: Sequence[str] = ("t",)
    partitions: Sequence[int] = (0,)
    """For each task, where its events go."""
    start_at: float = 0.0


def produce(what: Produced) -> int:
    """Write events; how many."""
    producer = Producer(
        {
            "bootstrap.servers": what.servers,
            "linger.ms": 0 if 0 < what.rate <= _QUIET else 1 if what.rate else 10,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    keys = [task.encode() for task in what.tasks]
    time.sleep(max(0.0, what.start_at - time.time()))
    began, written = time.monotonic(), 0
    total = what.count or round(what.rate * what.seconds)
    while written < total:
        due = (
            total if not what.rate else min(total, int((time.monotonic() - began) * what.rate) + 1)
        )
        for number in range(written, due):
            which = number % len(keys)
            producer.produce(
                what.topic,
                event(what.tasks[which]),
                key=keys[which],
                partition=what.partitions[which],
            )
            if number % _POLL_EACH == 0:
                producer.poll(0)
        written = due
        producer.poll(0)
        if what.rate:
            time.sleep(_TICK_S)
    producer.flush(60)
    return written


class Running:
    """A function that runs in another process."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_run, args=(theirs, call, *arguments), daemon=True)
        self._process.start()

    def result(self, within_s: float = 300.0) -> Any:
        """Wait for what it returns."""
        if not self._ours.poll(within_s):
            self._process.kill()
            raise TimeoutError(f"no result within {within_s:g} s")
        found = self._ours.recv()
        self._process.join(10)
        if isinstance(found, Exception):
            raise found
        return found


def _run(pipe: Pipe, call: Any, *arguments: Any) -> None:
    try:
        pipe.send(call(*arguments))
    except Exception as error:  # noqa: BLE001  # it is raised where the result is asked for
        pipe.send(error)


@dataclass(slots=True)
class Counted:
    """What clients have seen since they were last asked."""

    events: int = 0
    bytes: int = 0
    connections: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """Of the oldest event in what one read brought."""
    refused: int = 0
    done_s: float = 0.0
    """When the last event came, by the machine's monotonic clock."""
    lost_s: list[float] = field(default_factory=list)
    """When the server ended connections."""


class _Client(asyncio.Protocol):
    """One connection: counts events, and keeps the last id."""

    def __init__(self, seen: Counted, request: bytes, *, keeps_id: bool, pauses: bool) -> None:
        self._seen = seen
        self._request = request
        self._keeps_id = keeps_id
        self._pauses = pauses
        self._tail = b""
        self.last_id = ""
        self.transport: Any = None
        self.opened = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        seen = self._seen
        if not self.opened.is_set():
            self.opened.set()
            seen.connections += 1
            if not data.startswith(b"HTTP/1.1 200"):
                seen.refused += 1
            if self._pauses:
                self.transport.pause_reading()
        seen.bytes += len(data)
        data = self._tail + data
        self._tail = data[-len(_EVENT) + 1 :]
        found = data.count(_EVENT)
        if not found:
            return
        seen.events += found
        seen.done_s = time.monotonic()
        at = data.find(_SENT)
        if at >= 0 and len(seen.latencies_s) < _LATENCIES_MAX:
            number = data[at + len(_SENT) : at + len(_SENT) + 24]
            end = number.find(b"}")
            if end > 0:
                seen.latencies_s.append(time.time() - float(number[:end]))
        if self._keeps_id:
            self.note_id(data)

    def note_id(self, data: bytes) -> None:
        at = data.rfind(_ID)
        end = data.find(b"\n", at + len(_ID))
        if at >= 0 and end > 0:
            self.last_id = data[at + len(_ID) : end].decode()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._seen.lost_s.append(time.monotonic())


class Fleet:
    """Clients in a process of their own."""

    def __init__(self) -> None:
        self._ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_fleet, args=(theirs,), daemon=True)
        self._process.start()

    def open(self, port: int, paths: Sequence[str], **how: Any) -> None:
        """Open a stream for each path; `last_ids`, `keeps_id`, `pauses`, `headers`, `burst`."""
        self._ask("open", port, paths, how)

    def begin_open(self, port: int, paths: Sequence[str], **how: Any) -> None:
        """As `open`, all at once; that they are open is asked for with `answer`."""
        self._ours.send(("open", port, paths, how | {"burst": len(paths)}))

    def count(self) -> Counted:
        """What was seen since the last time."""
        found: Counted = self._ask("count")
        return found

    def ids(self) -> list[str]:
        """The last id of each client."""
        found: list[str] = self._ask("ids")
        return found

    def churn(self, port: int, path: str, reconnects: int, seconds: float) -> int:
        """Drop clients at random and resume each at once; how many did. Spread over a time."""
        found: int = self._ask("churn", port, path, reconnects, seconds)
        return found

    def begin_churn(self, port: int, path: str, reconnects: int, seconds: float) -> None:
        """As `churn`; its result is asked for with `answer`."""
        self._ours.send(("churn", port, path, reconnects, seconds))

    def answer(self) -> Any:
        """What was asked for."""
        if not self._ours.poll(300):
            raise TimeoutError("the clients do not answer")
        found = self._ours.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Close everything, and end the process."""
        self._ours.send(("close",))
        self._process.join(20)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, *what: Any) -> Any:
        self._ours.send(what)
        return self.answer()


def _fleet(pipe: Pipe) -> None:
    uvloop.run(_Fleet(pipe).run())


class _Fleet:
    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._clients: list[_Client] = []
        self._seen = Counted()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            what, *arguments = await loop.run_in_executor(None, self._pipe.recv)
            if what == "close":
                for client in self._clients:
                    client.transport.abort()
                return
            try:
                self._pipe.send(await getattr(self, what)(*arguments))
            except Exception as error:  # noqa: BLE001  # it is raised where it was asked for
                self._pipe.send(error)

    async def open(self, port: int, paths: Sequence[str], how: dict[str, Any]) -> None:
        burst = how.pop("burst", 100)
        last_ids = how.pop("last_ids", None) or [""] * len(paths)
        opened = []
        for start in range(0, len(paths), burst):
            many = [
                self._open(port, path, last_id, **how)
                for path, last_id in zip(
                    paths[start : start + burst], last_ids[start : start + burst], strict=True
                )
            ]
            opened += [await item for item in many]
            if burst < len(paths):
                await asyncio.sleep(0.02)
        async with asyncio.timeout(120):
            for client in opened:
                await client.opened.wait()
        self._clients += opened

    async def _open(
        self,
        port: int,
        path: str,
        last_id: str,
        *,
        keeps_id: bool = False,
        pauses: bool = False,
        headers: str = "",
        source: str = "127.0.0.1",
    ) -> _Client:
        resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            f"{resume}{headers}\r\n"
        ).encode()
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: _Client(self._seen, request, keeps_id=keeps_id, pauses=pauses),
            "127.0.0.1",
            port,
            local_addr=(source, 0) if source != "127.0.0.1" else None,
        )
        client.last_id = last_id
        return client

    async def count(self) -> Counted:
        seen, self._seen = self._seen, Counted()
        for client in self._clients:
            client._seen = self._seen  # noqa: SLF001  # its own client
        return seen

    async def ids(self) -> list[str]:
        return [client.last_id for client in self._clients]

    async def churn(self, port: int, path: str, reconnects: int, seconds: float) -> int:
        loop = asyncio.get_running_loop()
        began, done = loop.time(), 0
        while done < reconnects:
            due = min(reconnects, int((loop.time() - began) / seconds * reconnects) + 1)
            for _ in range(done, due):
                client = self._clients.pop(0)
                client.transport.abort()
                again = await self._open(port, path, client.last_id, keeps_id=True)
                self._clients.append(again)
            done = due
            await asyncio.sleep(0.01)
        return done
