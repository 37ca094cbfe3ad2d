"""A process of one thread that has imported what parts share, and forks a part at each request.

    tapewire up ──fork──▶ fork server ──fork──▶ part 1 .. N

Forked parts share the memory of imported modules with the server, with each other, and with the
command that started it all, and start without importing anything again. `infra.forks` is the other
end. Requests and reports are datagrams of JSON on a socket:

    {"number": 7, "module": "producers", "arguments": ["trainer"], "env": {...}}   with a log file
    {"number": 7, "pid": 4711}            the part was started
    {"number": 7, "error": "..."}         it was not
    {"pid": 4711, "code": -15}            it has ended

The server is forked before there is an event loop or a thread. It ends with its socket. Whenever it
dies, Linux kills its parts.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

MESSAGE_BYTES_MAX = 64 << 10
"""The largest datagram; a request has the environment variables of one part."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

is_available = sys.platform == "linux" and hasattr(os, "pidfd_open")
"""Whether parts can be forked here. Elsewhere nothing kills them when their supervisor dies."""


class ForkedPart(BaseException):
    """Raised in a forked part, through the frames of the command that has forked it.

    It is no error. The part's process catches it at the end of its program, and calls `run` there.
    """

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        super().__init__(module)
        self._module = module
        self._arguments = arguments

    def run(self) -> None:
        """Run the part's module as `python -m` does."""
        sys.argv = [self._module, *self._arguments]
        runpy.run_module(self._module, run_name="__main__", alter_sys=True)


def fork_server(modules: Sequence[str]) -> tuple[int, socket.socket]:
    """Fork a server from this process, which has one thread.

    The server says what goes wrong where this process does.

    Args:
        modules: what the server imports at first; one that is not installed is left out.

    Returns:
        The server's process id, and the socket to it.

    Raises:
        ForkedPart: in each part.
        OSError: there is no room for another process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Else each collection in a part would write to, and so copy, the pages that all share.
    gc.collect()
    gc.freeze()
    sys.stdout.flush()
    sys.stderr.flush()
    starter = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        _detach(starter)
        ours.close()
        _set_title(["tapewire-fork-server"])
        _import(modules)
        _serve(theirs)
    except ForkedPart:
        raise
    except BaseException:  # noqa: BLE001  # nothing of this may reach the starter's frames
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def dying_with(starter: int) -> Callable[[], None]:
    """Return what a new process does first: it asks Linux to kill it when its starter dies.

    Killed at once, and not asked to stop: without a supervisor its broker dies as well, so it would
    wait for Kafka, beside the parts of the next system.
    """
    libc = _LIBC
    assert libc is not None

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != starter:  # it died before
            os._exit(1)

    return prepare


def _import(modules: Sequence[str]) -> None:
    gc.disable()  # what modules make is kept, so searching it for garbage only takes time
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:  # its part says the same when it is started
            print(f"{module} is not shared: {error}", file=sys.stderr, flush=True)
    gc.enable()
    gc.collect()
    gc.freeze()


def _serve(supervisor: socket.socket) -> None:
    """Fork parts and report their ends until the supervisor closes its end of the socket.

    Raises:
        ForkedPart: in each part.
    """
    parts: dict[int, int] = {}
    # Not epoll, whose state a child would share.
    selector = selectors.PollSelector()
    selector.register(supervisor, selectors.EVENT_READ)
    try:
        while True:
            for key, _ in selector.select():
                if key.fd in parts:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    pid, status = os.waitpid(parts.pop(key.fd), 0)
                    code = os.waitstatus_to_exitcode(status)
                    supervisor.send(json.dumps({"pid": pid, "code": code}).encode())
                    continue
                data, files, _, _ = socket.recv_fds(supervisor, MESSAGE_BYTES_MAX, 1)
                if not data:
                    return
                answer = _answer(json.loads(data), files[0])
                if "pid" in answer:
                    watched = os.pidfd_open(answer["pid"])
                    parts[watched] = answer["pid"]
                    selector.register(watched, selectors.EVENT_READ)
                os.close(files[0])
                supervisor.send(json.dumps(answer).encode())
    except ForkedPart:
        supervisor.close()
        for watched in parts:
            os.close(watched)
        raise


def _answer(request: Mapping[str, Any], log: int) -> dict[str, Any]:
    """Fork a part, and return the report of it for the supervisor.

    Raises:
        ForkedPart: in the part.
    """
    try:
        return {"number": request["number"], "pid": _fork(request, log)}
    except OSError as error:  # no process or no memory
        return {"number": request["number"], "error": str(error)}


def _fork(request: Mapping[str, Any], log: int) -> int:
    """Fork a part, and return its process id.

    Raises:
        ForkedPart: in the part.
        OSError: no process or no memory.
    """
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _detach(server)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        module, arguments = request["module"], request["arguments"]
        os.environ.update(request["env"])
        _set_path(request["env"].get("PYTHONPATH", ""))
        _set_title([sys.executable, "-m", module, *arguments])
        sys.excepthook = sys.__excepthook__  # that of the command line shows its own frames
    except BaseException:  # noqa: BLE001  # nothing of this may reach the server's frames
        traceback.print_exc()
        os._exit(1)
    raise ForkedPart(module, arguments)


def _detach(starter: int) -> None:
    """Give this process a session of its own, no input, and the life of its starter."""
    os.setsid()
    dying_with(starter)()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _set_path(added: str) -> None:
    """Find modules as `python -m` does: in the working directory, then in `PYTHONPATH`."""
    own = [] if sys.flags.safe_path else [str(Path.cwd())]
    found = [*own, *filter(None, added.split(os.pathsep))]
    rest = sys.path if sys.flags.safe_path else sys.path[1:]
    sys.path[:] = [*found, *(entry for entry in rest if entry not in found)]


def _set_title(words: Sequence[str]) -> None:
    """Show words as this process's command line, as far as there is room for them.

    `ps` and /proc read it from the memory where the kernel has put the arguments.
    """
    with suppress(OSError, ValueError, IndexError):  # a kernel that does not say where
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        size = end - start
        if size > 0:
            title = "\0".join(words).encode(errors="surrogateescape")[: size - 1]
            ctypes.memmove(start, title.ljust(size, b"\0"), size)
