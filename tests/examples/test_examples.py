"""Every example runs against a real system, as its first lines say."""

import asyncio
import contextlib
import http.server
import os
import re
import sys
import threading
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright

from infra.embedded_broker import free_port
from kafka_io.reader import read_all
from producers.broadcaster import SSEBroadcaster
from schemas.events import BacktestProgress, TrainingProgress
from schemas.topics import BACKTEST_EVENTS, TRAINING_EVENTS
from tests.conftest import World
from tests.support.clients import stream
from tests.support.raw_streams import raw_stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
_CHROMIUM_OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run")


async def run(world: World, *command: str, **variables: str) -> str:
    """Run an example to its end, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **system_of(world), **variables},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


def system_of(world: World) -> Mapping[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
        "PYTHONPATH": str(ROOT),
    }


async def report_alerts(world: World, count: int) -> None:
    async with SSEBroadcaster(world.producer_settings) as reporter:
        for number in range(count):
            await reporter.send_risk_alert(
                "margin", "high", f"number {number}", "used", 0.9, 0.8, "desk", "rates"
            )


async def test_curl_follows_and_resumes(world: World) -> None:
    edge = await world.edge()
    await report_alerts(world, 4)
    # The script follows for five seconds, which a busy machine takes to prepare a first read.
    async with raw_stream(f"{edge.url}/api/v1/sse/alerts?from=earliest") as opened:
        await opened.events("risk_alert", 4)
    printed = await run(world, "bash", str(EXAMPLES / "01-curl" / "follow.sh"), EDGE_URL=edge.url)
    assert printed.startswith("resuming after A")
    assert re.findall(r"number \d", printed) == ["number 2", "number 3"]


@pytest.mark.browser
async def test_a_page_lists_alerts(world: World, chromium: str) -> None:
    with served(EXAMPLES / "02-browser") as origin:
        edge = await world.edge(cors_origins=origin)
        await report_alerts(world, 2)
        async with async_playwright() as playwright:
            options = [*_CHROMIUM_OPTIONS]
            browser = await playwright.chromium.launch(executable_path=chromium, args=options)
            page = await browser.new_page()
            await page.goto(f"{origin}/index.html?edge={edge.url}")
            await page.wait_for_selector("li:nth-child(2)")
            texts = await page.locator("li").all_text_contents()
            await browser.close()
    assert texts == ["rates raised: number 1", "rates raised: number 0"]


async def test_a_python_program_continues_after_a_restart(world: World, tmp_path: Path) -> None:
    edge = await world.edge()
    await report_alerts(world, 5)
    program = str(EXAMPLES / "03-python" / "follow.py")
    kept = {"EDGE_URL": edge.url, "LAST_ID_FILE": str(tmp_path / "last-id.txt")}
    first = await run(world, sys.executable, program, "2", **kept)
    second = await run(world, sys.executable, program, "3", **kept)
    assert (first + second).splitlines() == [f"number {number}" for number in range(5)]


async def test_a_client_continues_on_another_edge(world: World) -> None:
    first, second = await world.edge(), await world.edge()
    await report_alerts(world, 5)
    program = str(EXAMPLES / "04-resume-on-another-edge" / "resume.py")
    printed = await run(world, sys.executable, program, first.url, second.url)
    assert printed.splitlines() == [
        *(f"{first.url} number {number}" for number in (0, 1)),
        *(f"{second.url} number {number}" for number in (2, 3, 4)),
    ]


async def test_a_training_loop_is_reported_and_followed_to_its_end(world: World) -> None:
    edge = await world.edge()
    program = str(EXAMPLES / "05-report-a-training" / "train.py")
    printed = await run(world, sys.executable, program, "run-7", EDGE_URL=edge.url)
    assert printed.splitlines()[0] == "  0.0 % started: loading data"
    assert printed.splitlines()[-1] == "100.0 % completed: done"
    assert len(printed.splitlines()) == 7


async def test_returns_raise_an_alert(world: World) -> None:
    edge = await world.edge()
    await world.worker(batch_within_s=0.05)
    program = str(EXAMPLES / "06-returns-and-alerts" / "returns.py")
    printed = await run(world, sys.executable, program, "my-desk", EDGE_URL=edge.url)
    assert printed.startswith("raised VaR exceeded threshold: ")


async def test_an_application_serves_an_iterator(world: World) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES / "07-own-stream")),
        *("--port", str(port), "--no-access-log", "app:app"),
        env={**os.environ, **system_of(world)},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"Uvicorn running" not in (line := await process.stderr.readline()):
                assert line, "uvicorn ended"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            text = (await client.get("/countdown/3")).text
    finally:
        process.terminate()
        await process.communicate()
    assert re.findall(r'"remaining":(\d)', text.replace(" ", "")) == ["3", "2", "1"]
    assert "event: liftoff" in text


async def test_an_own_agent_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = await world.edge()
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{EXAMPLES / '08-own-agent'}")
    await world.orchestrator(agents="reverse:Reverse")
    message = "reverse my words please one two"
    async with stream(edge.url, "/process/stream", message=message) as client:
        await client.to_end()
    text = "".join(
        part["text"]
        for block in client.blocks
        if block.data and block.json.get("event") == "response_chunk"
        for part in block.json["response_data"]["raw_response"]["parts"]
    )
    assert text.split() == ["two", "one", "please", "words", "my", "reverse"]


async def test_own_programs_report_from_a_loop_from_threads_and_from_a_training(
    world: World,
) -> None:
    programs = {
        "09-asyncio/simulate.py": "reported",
        "10-threads/process.py": "words",
        "11-training-callbacks/train.py": "of the unseen digits are right",
    }
    for number, (program, printed) in enumerate(programs.items()):
        found = await run(world, sys.executable, str(EXAMPLES / program), f"own-{number}")
        assert printed in found
    settings = world.producer_settings
    backtests = [
        (event.backtest_id, event.progress, event.status)
        for event in await read_all(BACKTEST_EVENTS, settings)
        if isinstance(event, BacktestProgress)
    ]
    for run_id in ("own-0-0", "own-0-1", "own-0-2"):
        assert [event[1:] for event in backtests if event[0] == run_id] == [
            (25.0, "running"),
            (50.0, "running"),
            (75.0, "running"),
            (100.0, "completed"),
        ]
    trainings = [
        event
        for event in await read_all(TRAINING_EVENTS, settings)
        if isinstance(event, TrainingProgress)
    ]
    for file in range(4):
        of_file = [event.status for event in trainings if event.task_id == f"own-1-{file}"]
        assert of_file == ["running", "completed"]
    loop = [event for event in trainings if event.task_id == "own-2"]
    assert [event.status for event in (loop[0], loop[-1])] == ["started", "completed"]
    assert all(event.metrics["loss"] > 0 for event in loop[1:-1])


@contextlib.contextmanager
def served(folder: Path) -> Generator[str]:
    """Serve a folder from an origin of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name
            """Print nothing."""

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
