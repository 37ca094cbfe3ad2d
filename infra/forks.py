"""The supervisor's end of the fork server: asks for parts, and learns of their ends."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from infra.fork_server import MESSAGE_BYTES_MAX, fork_server


class ForkedProcess:
    """A part that the fork server has forked, with what the supervisor needs of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """The exit code, or minus the signal that has ended it; None while it runs."""
        self._ended = asyncio.Event()
        self._descriptor: int | None = None
        with suppress(ProcessLookupError):  # the report of its end is on its way
            self._descriptor = os.pidfd_open(pid)

    async def wait(self) -> int:
        """Wait for its end, and return its code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sent: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, sent)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.send_signal(signal.SIGKILL)

    def end(self, code: int) -> None:
        """Note its end."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self.returncode = code
        self._ended.set()

    def kill_without_report(self, loop: asyncio.AbstractEventLoop) -> None:
        """Kill it, and note its end when it is dead: nobody reports it any more."""
        descriptor = self._descriptor
        if descriptor is None:
            self.end(-signal.SIGKILL)
            return

        def died() -> None:
            loop.remove_reader(descriptor)
            self.end(-signal.SIGKILL)

        self.kill()
        loop.add_reader(descriptor, died)


class Forks:
    """Parts that are forked from one process, as long as that process lives."""

    def __init__(self, pid: int, server: socket.socket) -> None:
        """Take a server over.

        Args:
            pid: its process.
            server: the socket to it.
        """
        self.pid = pid
        """The server's process."""
        self.is_serving = True
        """Whether the server lives."""
        self.when_lost: Callable[[int], None] = _ignore
        """Called with the server's exit code when it has died; all its parts die with it."""
        self._server = server
        self._server.setblocking(False)  # noqa: FBT003  # its only argument
        self._asked: dict[int, asyncio.Future[ForkedProcess]] = {}
        self._parts: dict[int, ForkedProcess] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: int
    ) -> ForkedProcess:
        """Start a part.

        Args:
            module: what `python -m` would run.
            arguments: those of the command line behind the module.
            env: environment variables in addition to those of this process.
            log: the file that takes what the part writes.

        Raises:
            OSError: it could not be started.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._server, self._read)
        self._count += 1
        number = self._count
        request = {"number": number, "module": module, "arguments": [*arguments], "env": {**env}}
        started: asyncio.Future[ForkedProcess] = self._loop.create_future()
        self._asked[number] = started
        try:
            socket.send_fds(self._server, [json.dumps(request).encode()], [log])
            return await started
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Kill the server, and with it what is left of its parts."""
        if not self.is_serving:
            return
        self.is_serving = False
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._server)
        self._server.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _read(self) -> None:
        """Read a report of the server."""
        try:
            data = self._server.recv(MESSAGE_BYTES_MAX)
        except ConnectionError:
            data = b""
        if not data:
            self._lose()
            return
        report: dict[str, Any] = json.loads(data)
        pid = report.get("pid", 0)
        if "code" in report:
            self._parts.pop(pid).end(report["code"])
            return
        if pid:
            self._parts[pid] = ForkedProcess(pid)
        started = self._asked.get(report["number"])
        if started is None or started.done():  # nobody waits for the part any more
            return
        if pid:
            started.set_result(self._parts[pid])
        else:
            started.set_exception(OSError(report["error"]))

    def _lose(self) -> None:
        """Note that the server has died, and its parts with it."""
        assert self._loop is not None
        self.is_serving = False
        self._loop.remove_reader(self._server)
        self._server.close()
        _, status = os.waitpid(self.pid, 0)
        for part in self._parts.values():
            part.kill_without_report(self._loop)
        self._parts.clear()
        for started in self._asked.values():
            if not started.done():
                started.set_exception(OSError("the fork server has died"))
        self.when_lost(os.waitstatus_to_exitcode(status))


@contextmanager
def forks_of(modules: Sequence[str]) -> Generator[Forks]:
    """Fork a server from this process, which has one thread, and end it with the block.

    Args:
        modules: what the server imports, so that all parts share it.

    Raises:
        ForkedPart: in each part.
        OSError: it could not be started.
    """
    forks = Forks(*fork_server(modules))
    try:
        yield forks
    finally:
        forks.close()


def _ignore(code: int) -> None:
    del code
