"""Parts that are forked from a program of one thread, as `tapewire up` is."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.fork_server import is_available

pytestmark = pytest.mark.skipif(not is_available, reason="only Linux kills parts with their parent")

_PROGRAM = """
import asyncio, pathlib, sys
from infra.fork_server import ForkedPart
from infra.forks import forks_of
from infra.part_states import PartStates
from infra.supervisor import Part, Supervisor

folder = pathlib.Path(sys.argv[1])

def say(line):
    print(line, flush=True)

async def main(forks):
    supervisor = Supervisor(folder, say, PartStates(folder / "parts.json"), forks)
    command = (sys.executable, "-m", "part")
    env = {"PYTHONPATH": str(folder), "GREETING": "hello"}
    await supervisor.launch(*(
        Part(name, (*command, name), env, stop_within_s=0.5) for name in sys.argv[2:]
    ))
    print("pids", *(supervisor.pids().get(name, 0) for name in sys.argv[2:]), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stop.set)
    await supervisor.watch(stop)
    await supervisor.stop()

try:
    with forks_of(["shared", "no_such_module"]) as forks:
        asyncio.run(main(forks))
except ForkedPart as forked:
    part = forked
else:
    sys.exit()
part.run()
"""
_SHARED = """
import os
IMPORTED_BY = os.getpid()
"""
_PART = """
import atexit, json, os, signal, sys, threading
import shared
from kafka_io.readiness import notify_ready

[name] = sys.argv[1:]
if name == "broken":
    raise ValueError("a bad record")
if name == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
atexit.register(print, "the end")
stopped = threading.Event()
if name == "tidy":
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    threading.Thread(target=lambda: (stopped.wait(), print("a thread has ended"))).start()
print(json.dumps({
    "pid": os.getpid(),
    "parent": os.getppid(),
    "session": os.getsid(0),
    "greeting": os.environ["GREETING"],
    "umask": os.umask(0o022),
    "imported_by": shared.IMPORTED_BY,
    "main": __name__,
    "stdin": sys.stdin.read(),
    "threads": threading.active_count(),
}), flush=True)
notify_ready("here")
if name == "tidy":
    stopped.wait()
else:
    while True:
        signal.pause()
"""


class _Program:
    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.lines: list[str] = []
        self.server = psutil.Process()
        self.parts: list[psutil.Process] = []

    async def until(self, text: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"it ended: {self.lines}"
                self.lines.append(line.rstrip())
                if text in line:
                    return line

    def log(self, name: str) -> list[str]:
        return (self.folder / f"{name}.log").read_text().splitlines()

    def seen(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(next(x for x in self.log(name) if x.startswith("{")))
        return found


@asynccontextmanager
async def _supervised(folder: Path, *names: str) -> AsyncGenerator[_Program]:
    for name, text in (("part", _PART), ("shared", _SHARED)):
        (folder / f"{name}.py").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, str(folder), *names),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(Path.cwd())))},
        umask=0o077,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = _Program(process, folder)
    try:
        pids = (await program.until("pids ")).split()[1:]
        program.parts = [psutil.Process(int(pid)) for pid in pids if pid != "0"]
        [program.server] = psutil.Process(process.pid).children()
        yield program
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_forked_part_is_a_program_of_its_own(tmp_path: Path) -> None:
    async with _supervised(tmp_path, "tidy", "stubborn", "broken") as program:
        tidy = program.seen("tidy")
        assert tidy["pid"] == tidy["session"] == program.parts[0].pid
        assert tidy["parent"] == program.server.pid
        assert tidy["imported_by"] == program.server.pid
        assert tidy["greeting"] == "hello"
        assert tidy["umask"] == 0o077
        assert tidy["main"] == "__main__"
        assert tidy["stdin"] == ""
        assert program.server.ppid() == program.process.pid
        line = program.parts[0].cmdline()
        assert line[1:4] == ["-m", "part", "tidy"]
        assert [text for text in program.lines if "no_such_module is not shared" in text]
        assert [text for text in program.lines if "died with exit code 1 before it" in text]
        assert "ValueError: a bad record" in program.log("broken")
        program.process.terminate()
        await program.until(f"{'stubborn':<10} stopped")
        await program.until(f"{'tidy':<10} stopped")
        assert await program.process.wait() == 0
        assert program.log("tidy")[-2:] == ["a thread has ended", "the end"]
        assert "the end" not in program.log("stubborn"), "it was killed"
        assert not program.server.is_running()


async def test_a_forked_part_that_dies_is_forked_again(tmp_path: Path) -> None:
    async with _supervised(tmp_path, "one") as program:
        program.parts[0].send_signal(signal.SIGKILL)
        await program.until("one        died with SIGKILL; its log ends:")
        await program.until("one        ready")
        [again] = program.server.children()
        assert again.pid != program.parts[0].pid


async def test_the_server_and_its_parts_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    async with _supervised(tmp_path, "stubborn") as program:
        program.process.kill()
        await program.process.wait()
        family = [program.server, *program.parts]
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=5)
        assert not alive


async def test_the_parts_of_a_killed_server_are_started_again_as_programs(tmp_path: Path) -> None:
    async with _supervised(tmp_path, "stubborn", "one") as program:
        program.server.kill()
        await program.until("forks      died with SIGKILL, and the parts with it")
        for _ in program.parts:
            await program.until("ready in")
        _, alive = await asyncio.to_thread(psutil.wait_procs, program.parts, timeout=5)
        assert not alive
        found = psutil.Process(program.process.pid).children()
        assert {part.cmdline()[-1] for part in found} == {"stubborn", "one"}
        program.process.terminate()
        await program.until(f"{'stubborn':<10} stopped")
        assert await program.process.wait() == 0
