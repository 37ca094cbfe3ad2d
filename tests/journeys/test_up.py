"""The whole system by its one command, as a new user starts it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from infra.data_dir import find_running
from producers.market.prices import load_prices, trading_days
from schemas.instants import to_rfc3339
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

_PARTS = {
    "kafka",
    "market",
    "topics",
    "processor",
    "edge",
    "trainer",
    "backtester",
    "agents",
    "notifier",
    "demo",
}


class System:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """Read its output until a line matches."""
        assert self.process.stdout is not None
        async with asyncio.timeout(120):
            while True:
                raw = await self.process.stdout.readline()
                assert raw, f"it ended: {self.lines}"
                self.lines.append(raw.decode().rstrip())
                found = re.search(pattern, self.lines[-1])
                if found:
                    return found

    def pids(self) -> list[psutil.Process]:
        """Return all processes of the system."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def parts(self) -> list[psutil.Process]:
        """Return the processes of the parts, without those that these have started."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if "fork-server" in command[0]:
                    found += child.children()
                elif "-Xshare:dump" not in command:  # which archives the broker's classes, and ends
                    found.append(child)
        return found

    async def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def up(folder: Path, *options: str, **settings: str) -> AsyncGenerator[System]:
    env = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    env |= settings
    command = (sys.executable, "-m", "cli", "up", "--data-dir", str(folder), *options)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    )
    system = System(process)
    try:
        system.url = (await system.until(r"open (http://\S+)")).group(1)
        yield system
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_alerts_of_real_crises_whose_numbers_are_right(tmp_path: Path) -> None:
    """What a new user does: one command, then curl; and the arithmetic checked from outside."""
    async with up(tmp_path / "data", "--speed", "400") as system:
        assert {line.split()[0] for line in system.lines if " ready" in line} == _PARTS
        async with stream(system.url, "/api/v1/sse/alerts", since="earliest") as client:
            alerts = [block.inner for block in await client.events("risk_alert", 30)]
        processes = system.pids()
        assert len(system.parts()) == len(_PARTS) - 1  # topics are no process
        assert await system.interrupt() == 0
        assert not [process for process in processes if process.is_running()]
    days = trading_days(load_prices())
    instants = {to_rfc3339(day.at_close()[0].event_time_us): day for day in days}
    place = {day.day: at for at, day in enumerate(days)}
    checked = 0
    for alert in alerts:
        assert alert["as_of"] in instants  # in every lap, the dates are those of the data
        if alert["metric_name"] != "var_95":
            continue
        upto = place[instants[alert["as_of"]].day] + 1
        name = alert["entity_id"]
        returns = [day.returns[name] for day in days[:upto] if name in day.returns][-250:]
        var = np.quantile(-np.array(returns), 0.95, method="inverted_cdf")
        assert alert["metric_value"] == pytest.approx(var, rel=1e-12)
        if alert["state"] == "raised":
            shown = f"VaR exceeded threshold: {var:.4f} > {alert['threshold']:.4f}"
            assert alert["message"] == shown
        checked += 1
    assert checked >= 15
    assert {alert["as_of"][:4] for alert in alerts} & {"2000", "2001"}
    assert {alert["as_of"][:4] for alert in alerts} & {"2008", "2009"}


@pytest.mark.long
async def test_it_starts_again_where_it_was_and_keeps_what_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    measures = "/api/v1/sse/measures"
    async with up(folder, "--speed", "20") as system:
        async with stream(system.url, measures, entity_id="IBM") as client:
            before = (await client.events("risk_measure", 5))[-1]
        running = find_running(folder)
        assert running is not None
        assert running.url == system.url
        assert await system.interrupt() == 0
    assert find_running(folder) is None
    async with up(folder, "--speed", "20", "--edges", "2") as system:
        assert len([line for line in system.lines if line.startswith("edge-")]) == 2
        headers = {"Last-Event-ID": before.id or ""}
        async with stream(system.url, measures, headers=headers, entity_id="IBM") as client:
            after = await client.events("risk_measure", 5)
        assert not [block for block in client.blocks if block.event == "gap"]
        days = [before.inner["as_of"], *(block.inner["as_of"] for block in after)]
        assert days == sorted(set(days))


@pytest.mark.long
async def test_a_part_that_dies_comes_back_and_a_taken_port_is_passed_over(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    async with up(folder, "--no-demo", "--examples") as system:
        async with stream(system.url, "/live-counter") as counter:
            await counter.until(lambda blocks: len(blocks) >= 1)
        assert counter.blocks[0].data == "Count: 0"
        assert not [line for line in system.lines if line.startswith("demo")]
        port = system.url.rsplit(":", 1)[1]
        async with up(tmp_path / "other", "--no-demo", "--port", port) as second:
            assert second.url != system.url
            assert [line for line in second.lines if f"port {port} is taken; using" in line]
        again = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "up", "--data-dir", str(folder)),
            stderr=subprocess.PIPE,
        )
        _, error = await again.communicate()
        assert again.returncode == 1
        assert b"runs a system on" in error
        edge = next(pid for pid in system.pids() if "sse_edge" in " ".join(pid.cmdline()))
        edge.kill()
        await system.until(r"edge\s+died with SIGKILL; its log ends:")
        await system.until(r"edge\s+ready")
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{system.url}/health/live")).status_code == 200


@pytest.mark.long
async def test_a_part_that_cannot_work_stops_no_other_part_and_health_names_it(
    tmp_path: Path,
) -> None:
    """The broker dies meanwhile, and comes back."""
    folder = tmp_path / "data"
    async with up(folder, "--no-demo", TAPEWIRE_RISK_LEVELS="much") as system:
        assert [
            line for line in system.lines if re.search(r"started in .* without processor", line)
        ]
        edge = next(pid for pid in system.pids() if "sse_edge" in " ".join(pid.cmdline()))
        await system.until(r"processor\s+is down: .*much.*; it is started again in 8 s")
        async with httpx.AsyncClient(base_url=system.url) as http:
            ready = await http.get("/health/ready")
            assert ready.status_code == 200
            assert ready.json()["down"] == ["processor"]
            assert ready.json()["parts"]["trainer"]["state"] == "up"
            kafka = next(pid for pid in system.pids() if "kafka.Kafka" in " ".join(pid.cmdline()))
            kafka.kill()
            await system.until(r"kafka\s+died with SIGKILL")
            await system.until(r"kafka\s+ready")
            async with asyncio.timeout(60), stream(system.url, "/api/v1/sse/training") as client:
                await client.until(bool)
            assert client.blocks[0].event == "connected"
        assert edge.is_running()
        assert await system.interrupt() == 0


async def test_the_command_explains_itself() -> None:
    for arguments, wanted in (
        (("--help",), "KAFKA_BOOTSTRAP_SERVERS"),
        (("up", "--help"), "--data-dir"),
    ):
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", *arguments), stdout=subprocess.PIPE
        )
        printed, _ = await done.communicate()
        assert done.returncode == 0
        assert wanted in printed.decode()
