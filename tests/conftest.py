"""One broker for the session; topics, processes and ports of its own for each test.

Which broker: the one that `KAFKA_BOOTSTRAP_SERVERS` names; else, with `TAPEWIRE_TEST_KAFKA=docker`,
one in a container; else the embedded one.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, Phase, settings as examples
from xdist.scheduler import LoadScopeScheduling

from infra.embedded_broker import Broker, free_port, prepare
from infra.settings import InfraSettings
from infra.supervisor import Part, Process
from infra.topics import provision, wait_for_kafka
from infra.trades_package import trades_jar
from kafka_io.settings import ProducerSettings
from schemas.topics import CATALOGUE
from tests.support.broker_container import broker_container
from tests.support.leaks import leaks_in_captured, leaks_in_files

if "CI" not in os.environ:  # there Hypothesis has a profile of its own
    examples.register_profile(
        "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    examples.load_profile("unhurried")
examples.register_profile("unshrunk", examples(), phases=[Phase.explicit, Phase.generate])

_START_S = 180.0
_EDGE = {
    "TAPEWIRE_PORT": "0",
    # On a busy machine a broker and a processor are slow, and neither is away.
    "TAPEWIRE_BROKER_PATIENCE_S": "20",
    "TAPEWIRE_PROCESSOR_PATIENCE_S": "10",
}
_SHARING = ("tests/seeds/", "tests/analytics/registry/")
"""The folders whose tests share a system, or a registry."""
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class TestKafka:
    """The broker that tests talk to."""

    __test__ = False

    bootstrap_servers: str
    broker: Broker | None = None
    log_path: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def can_restart(self) -> bool:
        return self.broker is not None

    def begin(self) -> None:
        """Start the process, without waiting for it."""
        assert self.broker is not None
        assert self.log_path is not None
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(self.broker.command, stdout=log, stderr=log)

    def start(self) -> None:
        self.begin()
        wait_for_kafka(self.bootstrap_servers, within_s=_START_S)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(sig)
        self._process.wait(timeout=_START_S)

    def send_signal(self, sig: signal.Signals) -> None:
        """Send the process a signal, and do not wait for what follows."""
        assert self._process is not None
        self._process.send_signal(sig)

    def ended(self) -> int:
        """Wait until the process has ended, and return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=_START_S)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None


class _WholeFiles(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Lets one process run all tests of a file, and of a folder whose tests share a system.

    xdist's groups would do so as well, but have no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in _SHARING if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return what shares the tests out between processes."""
    return _WholeFiles(config, log)


_LEAKS = pytest.StashKey[list[str]]()
"""The tokens and secrets that the session's processes and tests have logged."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEAKS] = []
    config.pluginmanager.register(_LeakSearch(config), "tapewire-leaks")


class _LeakSearch:
    """Searches what a session has logged for tokens and secrets; it fails if there are any."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        """Whether this is a process of another one, which searches the logs of both."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._is_worker:
            found = leaks_in_captured(report.sections)
            self._config.stash[_LEAKS].extend(f"{report.nodeid}: {leak}" for leak in found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        factory: pytest.TempPathFactory | None = getattr(self._config, "_tmp_path_factory", None)
        if self._is_worker or factory is None:
            return
        self._config.stash[_LEAKS].extend(leaks_in_files(factory.getbasetemp()))
        if self._config.stash[_LEAKS]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        leaks = self._config.stash[_LEAKS]
        if leaks:
            terminalreporter.section("tokens and secrets in logs", red=True)
            for leak in dict.fromkeys(leaks):
                terminalreporter.line(leak)


_LOGS: list[Path] = []
"""The logs of the parts that run now."""
_LOG_BYTES = 4_000
"""How much of the end of each is shown of a test that fails."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs of the parts that run while a test fails."""
    report = yield
    if report.failed:
        for log in filter(Path.exists, _LOGS):
            if end := log.read_bytes()[-_LOG_BYTES:].decode(errors="replace"):
                report.sections.append((f"end of {log.name}", end))
    return report


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[TestKafka]:
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        wait_for_kafka(given, within_s=_START_S)
        yield TestKafka(given)
        return
    if os.environ.get("TAPEWIRE_TEST_KAFKA") == "docker":
        with broker_container() as servers:
            wait_for_kafka(servers, within_s=_START_S)
            yield TestKafka(servers)
        return
    folder = tmp_path_factory.mktemp("kafka")
    broker = prepare(folder, free_port(), maven_url=InfraSettings().maven_url)
    # It serves the topics of a thousand tests, one after the other, and must not pause for memory.
    command = ["-Xmx1g" if part.startswith("-Xmx") else part for part in broker.command]
    broker = replace(broker, command=tuple(command))
    kafka = TestKafka(broker.bootstrap_servers, broker, folder / "kafka.log")
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.stop()


@dataclass
class World:
    """A system of a test's own: a prefix on the shared broker, and processes that use it."""

    kafka: TestKafka
    prefix: str
    folder: Path
    stack: AsyncExitStack

    @property
    def producer_settings(self) -> ProducerSettings:
        return ProducerSettings(
            bootstrap_servers=self.kafka.bootstrap_servers,
            topic_prefix=self.prefix,
            patience_s=60,
        )

    def topic(self, name: str) -> str:
        return self.prefix + name

    async def edge(self, **settings: object) -> "Started":
        env = {f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()}
        return await self._start("edge", "sse_edge", _EDGE | env)

    async def worker(self, **settings: object) -> "Started":
        env = {f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()}
        return await self._start("worker", "stream_processors", env)

    async def trainer(self, **settings: object) -> "Started":
        env = {f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()}
        models = {"TAPEWIRE_MODELS_DIR": str(self.folder / "models")}
        return await self._start("trainer", "producers", models | env, "trainer")

    async def backtester(self, **settings: object) -> "Started":
        env = {f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()}
        return await self._start("backtester", "producers", env, "backtester")

    async def market(self) -> "Started":
        trades = {
            "TAPEWIRE_TRADES_JAR": str(
                await asyncio.to_thread(trades_jar, InfraSettings().maven_url)
            )
        }
        return await self._start("market", "producers", trades, "market")

    async def orchestrator(self, **settings: object) -> "Started":
        env = {f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()}
        return await self._start("agents", "producers", env, "orchestrator")

    async def program(self, module: str, *arguments: str, **settings: object) -> "Started":
        """Start a program of the tests."""
        env = {f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()}
        return await self._start(module.rpartition(".")[2], module, env, *arguments)

    async def _start(
        self, name: str, module: str, env: dict[str, str], *arguments: str
    ) -> "Started":
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAPEWIRE_TOPIC_PREFIX": self.prefix,
        }
        part = Part(
            f"{name}-{uuid.uuid4().hex[:6]}",
            (sys.executable, "-m", module, *arguments),
            common | env,
        )
        log = self.folder / f"{part.name}.log"
        process = Process(part, log)
        _LOGS.append(log)
        self.stack.callback(_LOGS.remove, log)
        self.stack.push_async_callback(process.stop)
        return Started(process, await process.start())


@dataclass
class Started:
    """A running part, and where it answers."""

    process: Process
    url: str

    async def kill(self) -> None:
        """As by kill -9."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.ended()

    async def stop(self) -> None:
        await self.process.stop()


@pytest.fixture
def new_world(kafka: TestKafka, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[World]]:
    """Makes worlds, each with all topics of the catalogue."""
    return lambda: open_world(kafka, tmp_path)


@asynccontextmanager
async def open_world(kafka: TestKafka, folder: Path) -> AsyncGenerator[World]:
    """Make a world, and forget its topics in the end."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    await asyncio.to_thread(provision, kafka.bootstrap_servers, prefix=prefix)
    try:
        async with AsyncExitStack() as stack:
            yield World(kafka, prefix, folder, stack)
    finally:
        # A broker that has thousands of partitions takes long to start again.
        await asyncio.to_thread(_forget, kafka.bootstrap_servers, prefix)


@pytest.fixture
async def own_world(tmp_path: Path) -> AsyncGenerator[World]:
    """A world on a broker of its own, which may be stopped and whose files may be damaged."""
    async with open_own_world(tmp_path) as one:
        yield one


@asynccontextmanager
async def open_own_world(folder: Path) -> AsyncGenerator[World]:
    """Make a world on a broker of its own."""
    broker = await asyncio.to_thread(
        prepare, folder / "kafka", free_port(), maven_url=InfraSettings().maven_url
    )
    kafka = TestKafka(broker.bootstrap_servers, broker, folder / "kafka.log")
    await asyncio.to_thread(kafka.start)
    try:
        await asyncio.to_thread(provision, kafka.bootstrap_servers)
        async with AsyncExitStack() as stack:
            yield World(kafka, "", folder, stack)
    finally:
        kafka.stop(signal.SIGKILL)


def _forget(bootstrap_servers: str, prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    names = [prefix + topic.name for topic in CATALOGUE]
    with suppress(KafkaException):  # a test may have deleted some, or left no broker behind
        for answer in admin.delete_topics(names, request_timeout=10).values():
            answer.result()


@pytest.fixture
async def world(
    new_world: Callable[[], AbstractAsyncContextManager[World]],
) -> AsyncGenerator[World]:
    async with new_world() as one:
        yield one


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; without it a test is skipped, but not where `TAPEWIRE_NEEDS_BROWSER`."""
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found is None and os.environ.get("TAPEWIRE_NEEDS_BROWSER"):
        pytest.fail("no Chromium is installed, and TAPEWIRE_NEEDS_BROWSER asks for one")
    if found is None:
        pytest.skip("no Chromium is installed; Debian's package is called chromium")
    return found
