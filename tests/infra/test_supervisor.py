import asyncio
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from infra.embedded_broker import free_port
from infra.errors import KafkaUnreachable, PartFailed
from infra.maven import LOCK
from infra.part_states import PartState, PartStates
from infra.supervisor import Need, Part, Process, Supervisor

READY = "from kafka_io.readiness import notify_ready; notify_ready('here')"
FOREVER = "import signal; signal.pause()"


def python(name: str, *lines: str, **more: float | Need) -> Part:
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


async def test_a_part_that_keeps_dying_stops_no_other_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses grow, the reason is named, and the states tell which part is down."""
    monkeypatch.setattr("infra.supervisor.BACKOFF_S", (0.0, 0.01, 0.02))
    said = Said()
    states = PartStates(tmp_path / "parts.json")
    supervisor = Supervisor(tmp_path, said.append, states)
    await supervisor.launch(
        python("well", READY, FOREVER),
        python("sick", READY, "raise SystemExit('ValueError: a bad record')"),
        python("dead", "raise SystemExit('a setting is invalid: x is 3')"),
    )
    healthy = supervisor._running[0]
    pid = healthy.pid
    parts = json.loads((tmp_path / "parts.json").read_text())
    assert parts["dead"]["failure"] == "died with exit code 1 before it was ready"
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
        tasks.create_task(supervisor.watch(stop))
        await said.until("sick       is down", times=8)
        await said.until("dead       is down", times=8)
        assert states.names(PartState.UP)[0] == "well"
        stop.set()
    assert healthy.pid == pid
    assert psutil.pid_exists(pid)
    down = said.about("sick       is down")
    why = "it died with exit code 1 (ValueError: a bad record)"
    assert down[0].endswith(f"is down: {why}; it is started again in 0 s")
    assert [line.rsplit(" ", 2)[1] for line in down[:4]] == ["0", "0.01", "0.02", "0.02"]
    assert "a setting is invalid: x is 3" in said.about("dead       is down")[0]
    assert len(said.about("sick | ValueError: a bad record")) == 1, "once, not at every death"
    await supervisor.stop()
    assert not (tmp_path / "parts.json").exists()


async def test_a_part_that_was_healthy_for_a_while_begins_with_the_shortest_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.supervisor.BACKOFF_S", (0.0, 0.01, 60.0))
    monkeypatch.setattr("infra.supervisor.HEALTHY_S", 0.0)
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    await supervisor.launch(python("sick", READY, "raise SystemExit(3)"))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        tasks.create_task(supervisor.watch(stop))
        await said.until(
            "is down: it died with exit code 3 (it says nothing); it is started again in 0 s",
            times=4,
        )
        stop.set()
    await supervisor.stop()


async def test_a_part_waits_for_what_it_needs_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.supervisor.BACKOFF_S", (0.0,))
    monkeypatch.setattr("infra.supervisor._NEED_S", 0.01)
    said = Said()
    states = PartStates(None)
    supervisor = Supervisor(tmp_path, said.append, states)
    asked: list[PartState] = []

    async def answers() -> bool:
        asked.append(PartState.WAITING if states.names(PartState.WAITING) else PartState.DOWN)
        return len(asked) > 5

    needy = python("needy", READY, "raise SystemExit(1)", needs=Need("Kafka at here", answers))
    await supervisor.launch(needy)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        tasks.create_task(supervisor.watch(stop))
        await said.until("needy      ready", times=2)
        stop.set()
    assert asked[:6] == [PartState.DOWN, *[PartState.WAITING] * 5]
    waits = said.about("needy      waits for Kafka at here, which does not answer")
    assert len(waits) == 1, "said once, however long it waits"
    await supervisor.stop()


async def test_what_cannot_even_be_started_is_named_and_tried_again(tmp_path: Path) -> None:
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    await supervisor.launch(Part("none", ("/there/is/no/such/program",)))
    assert said.about("none       could not be started: [Errno 2] No such file")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        tasks.create_task(supervisor.watch(stop))
        await said.until("none       could not be started", times=2)
        stop.set()
    await supervisor.stop()


async def test_a_probe_that_gives_up_is_one_more_failure_of_its_part(tmp_path: Path) -> None:
    said = Said()
    supervisor = Supervisor(tmp_path, said.append)
    probes = 0

    async def probe() -> str:
        nonlocal probes
        probes += 1
        if probes == 1:
            raise KafkaUnreachable("no Kafka has answered")
        return "here"

    part = Part("broker", (sys.executable, "-c", FOREVER), probe=probe)
    await supervisor.launch(part)
    assert said.about("broker     does not answer: no Kafka has answered; its log ends:")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        tasks.create_task(supervisor.watch(stop))
        await said.until("broker     ready", times=1)
        stop.set()
    await supervisor.stop()


async def test_the_log_of_a_running_part_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.supervisor.LOG_BYTES_MAX", 100)
    path = tmp_path / "part.log"
    loud = "import sys; print('first ' * 40, file=sys.stderr)"
    again = "import signal; signal.sigwait({signal.SIGUSR1}); print('second', file=sys.stderr)"
    mask = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})"
    process = Process(python("part", mask, loud, READY, again), path)
    await process.start()
    process.bound_log()
    assert path.stat().st_size == 0
    assert "first" in path.with_suffix(".log.1").read_text()
    process.send_signal(signal.SIGUSR1)
    await process.ended()
    assert path.read_text() == "second\n", "no hole where the file was cut"
    assert process.last_lines() == ["second"]
    process.bound_log()
    assert path.read_text() == "second\n", "a small log stays"


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
