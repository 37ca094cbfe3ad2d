import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from infra.embedded_broker import free_port
from infra.errors import PartFailed
from infra.maven import LOCK
from infra.supervisor import RESTARTS_MAX, Part, Supervisor

READY = "from kafka_io.readiness import notify_ready; notify_ready('here')"
FOREVER = "import signal; signal.pause()"


def python(name: str, *lines: str, **more: float) -> Part:
    return Part(name, (sys.executable, "-c", "\n".join(lines)), **more)  # type: ignore[arg-type]


class Said(list[str]):
    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def append(self, line: str) -> None:
        super().append(line)
        self._more.set()

    def about(self, text: str) -> list[str]:
        return [line for line in self if text in line]

    async def until(self, text: str, *, times: int) -> None:
        while len(self.about(text)) < times:
            self._more.clear()
            await self._more.wait()


async def test_parts_start_when_ready_and_stop_in_reverse_order(tmp_path: Path) -> None:
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    await supervisor.start(python("one", READY, FOREVER))
    await supervisor.start(python("two", READY, FOREVER))
    assert [line.split()[:2] for line in said] == [["one", "ready"], ["two", "ready"]]
    assert said[0].endswith("here")
    await supervisor.stop()
    assert said[2:] == [f"{'two':<10} stopped", f"{'one':<10} stopped"]


async def test_a_part_that_dies_is_named_and_started_again(tmp_path: Path) -> None:
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    flag = tmp_path / "once"
    dies_once = (
        "import os, pathlib, sys",
        f"flag = pathlib.Path({str(flag)!r})",
        READY,
        "if not flag.exists(): flag.touch(); sys.exit('I have lost my way')",
        FOREVER,
    )
    await supervisor.start(python("part", *dies_once))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        tasks.create_task(supervisor.watch(stop))
        await said.until("ready", times=2)
        stop.set()
    assert said.about("part       died with exit code 1; its log ends:")
    assert said.about("part | I have lost my way")
    await supervisor.stop()


async def test_a_part_that_keeps_dying_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.supervisor._BACKOFF_S", (0.0,))
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    await supervisor.start(python("sick", READY, "raise SystemExit(3)"))
    with pytest.raises(PartFailed, match=f"sick died {RESTARTS_MAX + 1} times"):
        await supervisor.watch(asyncio.Event())
    await supervisor.stop()


async def test_a_part_that_never_becomes_ready_is_named(tmp_path: Path) -> None:
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    with pytest.raises(PartFailed, match=r"mute was not ready within 0\.2 s"):
        await supervisor.start(python("mute", FOREVER, ready_within_s=0.2))
    with pytest.raises(PartFailed, match="dead died with exit code 1 before it was ready"):
        await supervisor.start(python("dead", "raise SystemExit('no luck')"))
    assert said.about("dead | no luck")
    await supervisor.stop()


async def test_a_part_that_does_not_go_is_killed(tmp_path: Path) -> None:
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    await supervisor.start(python("rock", stubborn, READY, FOREVER, stop_within_s=0.2))
    await supervisor.stop()
    assert not [child for child in psutil.Process().children() if "rock" in child.name()]


def test_a_taken_port_is_passed_over() -> None:
    free = free_port()
    assert free_port(free) == free


def test_the_brokers_jars_are_locked_by_their_hashes() -> None:
    text = LOCK.read_text()
    assert text.count("sha256") == 1
    assert text.count(".jar") > 40
    assert "http" not in text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
async def test_the_parts_of_a_killed_supervisor_die_at_once(tmp_path: Path) -> None:
    """Also one that would not go by SIGTERM."""
    stubborn = f"import signal; signal.signal(15, signal.SIG_IGN); {READY}; {FOREVER}"
    program = (
        "import asyncio, pathlib, sys",
        "from infra.supervisor import Part, Supervisor",
        "async def main():",
        f"    supervisor = Supervisor(pathlib.Path({str(tmp_path)!r}))",
        f"    await supervisor.start(Part('one', (sys.executable, '-c', {stubborn!r})))",
        "    print(supervisor._running[0].pid, flush=True)",
        "    await asyncio.Event().wait()",
        "asyncio.run(main())",
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "\n".join(program)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline(), await process.stdout.readline()]
    part = psutil.Process(int(lines[1]))
    process.kill()
    await process.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [part], timeout=5)
    assert gone == [part]
