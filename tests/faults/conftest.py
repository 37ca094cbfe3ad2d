"""Worlds and figures of scenes, and the account at the end of the run."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.topics import provision
from tests.conftest import TestKafka, World
from tests.faults.cluster import Cluster
from tests.faults.report import SceneReport, account

_LEFT_BEHIND = re.compile(r"never retrieved|was destroyed but it is pending|Unclosed AIOKafka")
"""What asyncio and aiokafka log when an error is never read, a task is not awaited, or a connection
is not closed."""


@pytest.fixture
def tidy_logs(tmp_path: Path) -> Generator[None]:
    """Check that a scene's processes have left no errors, tasks and connections behind."""
    yield
    logs = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log")}
    assert [name for name, log in logs.items() if _LEFT_BEHIND.search(log)] == []


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> SceneReport:
    """Takes what a scene did and measured."""
    return SceneReport(record_property)


@pytest.fixture
async def worlds(broker: Cluster, tmp_path: Path) -> AsyncGenerator[tuple[World, World]]:
    """The same system at the near and at the far listeners of a module's broker."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    await asyncio.to_thread(provision, broker.bootstrap_servers, prefix=prefix)
    async with AsyncExitStack() as stack:
        near = World(TestKafka(broker.bootstrap_servers), prefix, tmp_path, stack)
        yield near, World(TestKafka(broker.far_servers), prefix, tmp_path, stack)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the account, if a scene has figures."""
    ended = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.user_properties
    ]
    if ended:
        terminalreporter.section("account of the faults")
        for line in account(ended):
            terminalreporter.write_line(line)
