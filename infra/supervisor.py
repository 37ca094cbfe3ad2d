"""Starts the parts of a system in order, watches and restarts them, and stops them in reverse.

A part is a process. It reports readiness by systemd's notification protocol (`READY=1` to the
socket that `NOTIFY_SOCKET` names), or a probe checks it. When a part dies, the supervisor prints
the last lines of its log and restarts it with backoff; a part that dies too often stops
everything.

Parts run in sessions of their own, so Ctrl-C reaches the supervisor only, which stops them in
order. If the supervisor is killed, Linux kills them at once.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import PartFailed

RESTARTS_MAX = 5
"""The most deaths of a part within `RESTARTS_WITHIN_S` seconds."""
RESTARTS_WITHIN_S = 120.0
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_SHOWN_LINES = 12
_PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]
"""Prints a line of text."""


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the system."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables in addition to the supervisor's."""
    probe: Callable[[], Awaitable[str]] | None = None
    """Waits until the part answers, and returns its address; None for a part that notifies."""
    ready_within_s: float = 60.0
    stop_within_s: float = 15.0


class Supervisor:
    """Runs parts until it is stopped, or a part cannot be kept alive."""

    def __init__(self, log_dir: Path, say: Say = print) -> None:
        self._log_dir = log_dir
        self._say = say
        self._running: list[Process] = []

    async def start(self, *parts: Part) -> None:
        """Start parts side by side, and return when all are ready.

        Raises:
            PartFailed: a part was not ready in time, or died before it was ready.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        started = [Process(part, self._log_dir / f"{part.name}.log") for part in parts]
        self._running += started
        try:
            async with asyncio.TaskGroup() as starting:
                for running in started:
                    starting.create_task(self._start(running))
        except* PartFailed as failed:
            raise failed.exceptions[0] from None

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep the parts alive until `stop` is set.

        Raises:
            PartFailed: a part died too often.
        """
        try:
            async with asyncio.TaskGroup() as watching:
                keepers = [watching.create_task(self._keep(running)) for running in self._running]
                await stop.wait()
                for keeper in keepers:
                    keeper.cancel()
        except* PartFailed as failed:
            raise failed.exceptions[0] from None

    async def stop(self) -> None:
        """Stop all parts, the last started first; kill a part that does not stop in time."""
        for running in reversed(self._running):
            if await running.stop():
                self._say(f"{running.part.name:<10} stopped")
        self._running.clear()

    async def _start(self, running: "Process") -> None:
        began = time.monotonic()
        try:
            where = await running.start()
        except PartFailed as failed:
            self._show_end(running)
            raise failed from None
        took = time.monotonic() - began
        self._say(f"{running.part.name:<10} ready in {took:4.1f} s   {where}")

    async def _keep(self, running: "Process") -> None:
        deaths: deque[float] = deque()
        while True:
            code = await running.ended()
            now = time.monotonic()
            deaths.append(now)
            while now - deaths[0] > RESTARTS_WITHIN_S:
                deaths.popleft()
            name = running.part.name
            self._say(f"{name:<10} died with {_describe(code)}; its log ends:")
            self._show_end(running)
            if len(deaths) > RESTARTS_MAX:
                raise PartFailed(
                    f"{name} died {len(deaths)} times within {RESTARTS_WITHIN_S:g} s; "
                    f"see {running.log_path}"
                )
            await asyncio.sleep(_BACKOFF_S[min(len(deaths), len(_BACKOFF_S)) - 1])
            with suppress(PartFailed):  # it died again or hangs; either counts as one more death
                await self._start(running)

    def _show_end(self, running: "Process") -> None:
        for line in running.last_lines():
            self._say(f"  {running.part.name} | {line}")


class Process:
    """A running part."""

    def __init__(self, part: Part, log_path: Path) -> None:
        self.part = part
        self.log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        if log_path.exists():
            log_path.replace(log_path.with_suffix(".log.1"))

    async def start(self) -> str:
        """Start the process, wait until it is ready, and return where it answers."""
        with tempfile.TemporaryDirectory(prefix="tapewire-") as folder:
            notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address = f"{folder}/ready"
            with notified:
                notified.bind(address)
                notified.setblocking(False)  # noqa: FBT003  # its only argument
                with self.log_path.open("ab") as log:
                    self._process = await asyncio.create_subprocess_exec(
                        *self.part.command,
                        env={**os.environ, **self.part.env, "NOTIFY_SOCKET": address},
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=_dying_with(os.getpid()) if sys.platform == "linux" else None,
                    )
                return await self._until_ready(notified)

    @property
    def pid(self) -> int:
        """The process id of a started process."""
        assert self._process is not None
        return self._process.pid

    def send_signal(self, sig: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(sig)

    async def ended(self) -> int:
        """Wait for the process's end."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> bool:
        """Stop the process, and return whether it was running."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        process.terminate()
        try:
            async with asyncio.timeout(self.part.stop_within_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        return True

    def last_lines(self) -> list[str]:
        """Return the last lines of the log file."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line[:400] for line in lines[-_SHOWN_LINES:]]

    async def _until_ready(self, notified: socket.socket) -> str:
        name, within_s = self.part.name, self.part.ready_within_s
        ready = self.part.probe() if self.part.probe else _notification(notified)
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as both:
                death = both.create_task(self._died_early())
                where = await ready
                death.cancel()
        except* _Died:
            code = None if self._process is None else self._process.returncode
            raise PartFailed(f"{name} died with {_describe(code)} before it was ready") from None
        except* TimeoutError:
            await self.stop()
            raise PartFailed(f"{name} was not ready within {within_s:g} s") from None
        return where

    async def _died_early(self) -> None:
        await self.ended()
        raise _Died


class _Died(Exception):
    """The process ended before it was ready."""


async def _notification(notified: socket.socket) -> str:
    """Wait for `READY=1`, and return the status that came with it."""
    loop = asyncio.get_running_loop()
    while True:
        lines = (await loop.sock_recv(notified, 4096)).decode(errors="replace").splitlines()
        if "READY=1" in lines:
            return next((line[7:] for line in lines if line.startswith("STATUS=")), "")


def _dying_with(supervisor: int) -> Callable[[], None]:
    """Return what a new process does first: it asks Linux to kill it when its supervisor dies.

    Killed at once, and not asked to stop: without a supervisor its broker dies as well, so it would
    wait for Kafka, beside the parts of the next system.
    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died before
            os._exit(1)

    return prepare


def _describe(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
