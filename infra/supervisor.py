"""Starts the parts of a system in order, watches and restarts them, and stops them in reverse.

A part is a process. It reports readiness by systemd's notification protocol (`READY=1` to the
socket that `NOTIFY_SOCKET` names), or a probe checks it. When a part dies, the supervisor says why
and restarts it after a pause, which grows up to a minute while the part keeps dying. The other
parts go on, however often one dies. A part that needs another one waits until that one answers.

Parts run in sessions of their own, so Ctrl-C reaches the supervisor only, which stops them in
order. If the supervisor is killed, Linux kills them at once.

Parts of Python modules are forked from a server that has imported them (`infra.forks`), where there
is one. If that server dies, its parts die with it; they are started again as programs, which take
more memory and time.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import InfraError, PartFailed
from infra.fork_server import dying_with
from infra.forks import ForkedProcess, Forks
from infra.part_states import PartState, PartStates

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""The pauses before the first, second, ... restart of a part; the last one goes for all further."""
HEALTHY_S = 120.0
"""A part that was up for so long begins with the shortest pause again."""
LOG_BYTES_MAX = 16 << 20
"""A larger log file goes to `.log.1`, and a new one begins."""
_LOGS_S = 60.0
_NEED_S = 1.0
_SHOWN_LINES = 12
_SHOWN_BYTES = 64 << 10
_LINE_CHARACTERS = 400
_ERROR = re.compile(r"error|exception|critical|fatal|refused|invalid|failed", re.IGNORECASE)

Say = Callable[[str], None]
"""Prints a line of text."""


@dataclass(frozen=True, slots=True)
class Need:
    """A service that a part cannot work without."""

    name: str
    """For people, such as `Kafka at localhost:9092`."""
    answers: Callable[[], Awaitable[bool]]


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
    needs: Need | None = None
    """It is not restarted before this answers."""


class Supervisor:
    """Runs parts until it is stopped."""

    def __init__(
        self,
        log_dir: Path,
        say: Say = print,
        states: PartStates | None = None,
        forks: Forks | None = None,
    ) -> None:
        """Begin without parts.

        Args:
            log_dir: the folder of the parts' log files.
            say: prints a line for people.
            states: takes the states of the parts.
            forks: forks parts of Python modules; None starts each as a program.
        """
        self._log_dir = log_dir
        self._say = say
        self._forks = forks
        if forks is not None:
            forks.when_lost = self._say_lost
        self._states = PartStates(None) if states is None else states
        self._running: list[Process] = []

    def pids(self) -> Mapping[str, int]:
        """Return the process ids of the parts that run; any thread may ask."""
        found = ((running.part.name, running.live_pid) for running in list(self._running))
        return {name: pid for name, pid in found if pid is not None}

    async def start(self, *parts: Part) -> None:
        """Start parts side by side that everything else needs, and return when all are ready.

        Raises:
            PartFailed: a part was not ready in time, or died before it was ready.
        """
        await self.launch(*parts)
        for running in self._running[-len(parts) :]:
            if running.failure is not None:
                raise PartFailed(f"{running.part.name} {running.failure}")

    async def launch(self, *parts: Part) -> None:
        """Start parts side by side, and return when each is ready or has failed.

        `watch` starts those again that have failed.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        started = [Process(part, self._log_dir / f"{part.name}.log", self._forks) for part in parts]
        self._running += started
        async with asyncio.TaskGroup() as starting:
            for running in started:
                starting.create_task(self._start(running))

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep the parts alive until `stop` is set."""
        async with asyncio.TaskGroup() as watching:
            keepers = [watching.create_task(self._keep(running)) for running in self._running]
            keepers.append(watching.create_task(self._bound_logs()))
            await stop.wait()
            for keeper in keepers:
                keeper.cancel()

    async def stop(self) -> None:
        """Stop all parts, the last started first; kill a part that does not stop in time."""
        for running in reversed(self._running):
            if await running.stop():
                self._say(f"{running.part.name:<10} stopped")
        self._running.clear()
        self._states.close()

    async def _start(self, running: "Process") -> None:
        """Start a part; `failure` says afterwards whether it is up."""
        name = running.part.name
        self._states.set(name, PartState.STARTING)
        began = time.monotonic()
        try:
            where = await running.start()
        except PartFailed:
            self._states.set(name, PartState.DOWN, running.failure or "")
            self._say(f"{name:<10} {running.failure}; its log ends:")
            self._show_end(running)
            return
        self._states.set(name, PartState.UP)
        took = time.monotonic() - began
        self._say(f"{name:<10} ready in {took:4.1f} s   {where}")

    async def _keep(self, running: "Process") -> None:
        """Restart a part whenever it has died, after a pause that grows with each death."""
        name = running.part.name
        deaths = 0
        while True:
            failure = running.failure
            if failure is None:
                failure = f"died with {_describe(await running.ended())}"
                self._states.set(name, PartState.DOWN, failure)
                self._say(f"{name:<10} {failure}; its log ends:")
                self._show_end(running)
                if running.was_up_for_s >= HEALTHY_S:
                    deaths = 0
            pause_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
            deaths += 1
            why = f"it {failure} ({_reason(running.last_lines())})"
            self._say(f"{name:<10} is down: {why}; it is started again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            await self._wait_for_need(running)
            await self._start(running)

    async def _wait_for_need(self, running: "Process") -> None:
        need = running.part.needs
        if need is None or await need.answers():
            return
        name = running.part.name
        self._states.set(name, PartState.WAITING)
        self._say(f"{name:<10} waits for {need.name}, which does not answer")
        while not await need.answers():  # noqa: ASYNC110  # nobody notifies of what answers again
            await asyncio.sleep(_NEED_S)

    async def _bound_logs(self) -> None:
        while True:
            for running in self._running:
                await asyncio.to_thread(running.bound_log)
            await asyncio.sleep(_LOGS_S)

    def _say_lost(self, code: int) -> None:
        self._say(
            f"{'forks':<10} died with {_describe(code)}, and the parts with it; they are started "
            "again as programs, which take more memory"
        )

    def _show_end(self, running: "Process") -> None:
        """Print the end of a part's log, unless it is what has been printed last."""
        lines = running.last_lines()
        reason = _reason(lines)
        if reason == running.shown_reason:
            lines = ["(as before)"]
        running.shown_reason = reason
        for line in lines:
            self._say(f"  {running.part.name} | {line}")


class Process:
    """A running part."""

    def __init__(self, part: Part, log_path: Path, forks: Forks | None = None) -> None:
        self.part = part
        self.log_path = log_path
        self.failure: str | None = None
        """Why the last start has failed; None if the process was ready."""
        self.shown_reason: str | None = None
        """The line that was printed last as the reason of a death."""
        self._forks = forks
        self._process: asyncio.subprocess.Process | ForkedProcess | None = None
        self._ready_s = 0.0
        self._log_start = 0
        """The size of the log when the process was started."""
        if log_path.exists():
            log_path.replace(log_path.with_suffix(".log.1"))

    async def start(self) -> str:
        """Start the process, wait until it is ready, and return where it answers.

        Raises:
            PartFailed: it was not ready in time, died before, or could not be started at all.
        """
        try:
            where = await self._started()
        except OSError as error:  # no process, no memory, or no room for its log
            self.failure = f"could not be started: {error}"
        except PartFailed as error:
            self.failure = str(error)
        else:
            self.failure = None
            self._ready_s = time.monotonic()
            return where
        raise PartFailed(f"{self.part.name} {self.failure}")

    async def _started(self) -> str:
        with tempfile.TemporaryDirectory(prefix="tapewire-") as folder:
            notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address = f"{folder}/ready"
            with notified:
                notified.bind(address)
                notified.setblocking(False)  # noqa: FBT003  # its only argument
                with self.log_path.open("ab") as log:
                    self._log_start = log.tell()
                    env = {**self.part.env, "NOTIFY_SOCKET": address}
                    self._process = await self._begin(env, log.fileno())
                return await self._until_ready(notified)

    async def _begin(
        self, env: Mapping[str, str], log: int
    ) -> asyncio.subprocess.Process | ForkedProcess:
        """Start the process with environment variables beside those of this one."""
        program, *rest = self.part.command
        if self._forks is not None and self._forks.is_serving and program == sys.executable:
            option, module, *arguments = rest
            if option == "-m":
                return await self._forks.start(module, arguments, env, log)
        return await asyncio.create_subprocess_exec(
            *self.part.command,
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dying_with(os.getpid()) if sys.platform == "linux" else None,
        )

    @property
    def live_pid(self) -> int | None:
        """The process id; None if the process has ended, or was not started yet."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

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

    @property
    def was_up_for_s(self) -> float:
        """How long ago the process became ready, in seconds."""
        return time.monotonic() - self._ready_s

    def last_lines(self) -> list[str]:
        """Return the last lines that the process has written to its log."""
        try:
            with self.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                start = self._log_start if self._log_start <= size else 0
                log.seek(max(start, size - _SHOWN_BYTES))
                text = log.read().decode("utf-8", errors="replace")
        except OSError:  # it could not even be created
            return []
        return [line[:_LINE_CHARACTERS] for line in text.splitlines()[-_SHOWN_LINES:]]

    def bound_log(self) -> None:
        """Begin a new log file if the present one is too large; keep the last one of them.

        The process goes on writing to the same file, of which the content moves.
        """
        with suppress(OSError):  # such as a full disk; it is tried again
            if self.log_path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(self.log_path, self.log_path.with_suffix(".log.1"))
                os.truncate(self.log_path, 0)

    async def _until_ready(self, notified: socket.socket) -> str:
        within_s = self.part.ready_within_s
        ready = self.part.probe() if self.part.probe else _notification(notified)
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as both:
                death = both.create_task(self._died_early())
                where = await ready
                death.cancel()
        except* _Died:
            code = None if self._process is None else self._process.returncode
            raise PartFailed(f"died with {_describe(code)} before it was ready") from None
        except* TimeoutError:
            await self.stop()
            raise PartFailed(f"was not ready within {within_s:g} s") from None
        except* InfraError as errors:  # of the probe
            await self.stop()
            raise PartFailed(f"does not answer: {errors.exceptions[0]}") from None
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


def _reason(lines: Sequence[str]) -> str:
    """Return the last line that reads like an error; else the last line at all."""
    found = [line.strip() for line in lines if line.strip()]
    return next(filter(_ERROR.search, reversed(found)), found[-1] if found else "it says nothing")


def _describe(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
