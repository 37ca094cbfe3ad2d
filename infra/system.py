"""The whole system on one machine: its parts, their order, and their settings.

    kafka ──▶ topics ──▶ processor, edge 1 .. N, trainer, backtester, agents, notifier, market, demo

Each part is the program that runs in production; only the broker is embedded, unless another one is
configured.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infra.class_archive import ClassArchive
from infra.data_dir import (
    PARTS,
    PRIVATE_UMASK,
    TARGETS,
    RunningSystem,
    announced,
    locked,
    this_process,
)
from infra.demo_issuer import jwks_path
from infra.embedded_broker import bounded_disk, free_port, prepare, wait_for_port
from infra.errors import DownloadFailed, InfraError
from infra.fork_server import is_available
from infra.forks import Forks, forks_of
from infra.modules import is_compiled, module_name
from infra.part_states import PartState, PartStates
from infra.prometheus_targets import Target, take_ports, targets_file
from infra.settings import InfraSettings
from infra.supervisor import Need, Part, Say, Supervisor
from infra.system_metrics import SystemMetrics
from infra.topics import answers, cluster_id_of, provision, wait_for_kafka
from infra.trades_package import trades_jar
from kafka_io.part_metrics import serve_metrics
from kafka_io.security import SecuritySettings
from kafka_io.settings import METRICS_HOST, MetricsSettings
from producers.demo.notice import describe

KAFKA_PORT = 9092
_FOREIGN_KAFKA_S = 30.0
_BROKER_S = 60.0
_BROKER = "kafka"
"""The name of the embedded broker's part."""
_EXAMPLES = Path(__file__).parents[1] / "examples" / "sse-response"
_EXAMPLES_ROUTER = "sse_response_examples:router"


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """The options of a system: its edges, their first port, and the demo."""

    port: int = 8000
    """The port of the first edge, or the next free one."""
    edges: int = 1
    demo: bool = True
    examples: bool = False
    """Whether edges serve the example streams as well."""
    speed: float = 40.0
    """The trading days that the demo replays in a second."""


_SHARED = (
    "stream_processors.app",
    "stream_processors.notifications.app",
    "sse_edge.app",
    "producers.agents.orchestrator",
    "producers.backtesting.backtester",
    "producers.market.trades",
    "producers.training.trainer",
)
"""Modules of parts. Importing them starts no thread."""


@contextmanager
def forking(settings: InfraSettings) -> Generator[Forks | None]:
    """Begin to fork parts, from this process before it has an event loop or a thread.

    Yields:
        The forked parts' server; None where each part is started as a program.

    Raises:
        ForkedPart: in each part.
    """
    if not (settings.fork_parts and is_available):
        yield None
        return
    os.umask(PRIVATE_UMASK)  # also of all parts, which inherit it
    with forks_of([module_name(shared) for shared in _SHARED]) as forks:
        yield forks


async def run(
    settings: InfraSettings, options: SystemOptions, say: Say = print, forks: Forks | None = None
) -> None:
    """Run the system until SIGINT, SIGTERM or SIGHUP.

    Args:
        settings: where Kafka and the data are.
        options: edges, ports and the demo.
        say: prints a line for people.
        forks: forks the parts; None starts each as a program.

    Raises:
        InfraError: there is no Kafka, or the data directory cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None

    def stop_now() -> None:
        stop.set()
        if not up:
            starting.cancel()

    up = False
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sig, stop_now)
    os.umask(PRIVATE_UMASK)  # also of all parts, which inherit it
    with locked(settings.data_dir):
        states = PartStates(settings.data_dir / PARTS)
        supervisor = Supervisor(settings.data_dir / "logs", say, states, forks)
        try:
            began = time.monotonic()
            system, targets, archive = await _start(settings, options, supervisor, say)
            up = True
            say(f"started in {time.monotonic() - began:.0f} s{_without(states)}")
            if not is_compiled():
                say("plain Python: a compiled wheel (`make wheel-compiled`) takes less CPU time")
            metrics = SystemMetrics(states, supervisor.pids, settings.data_dir)
            with (
                announced(settings.data_dir, system),
                _shown(settings, metrics, targets, say),
            ):
                logs = settings.data_dir / "logs"
                say(f"\nopen {system.url}   (Ctrl-C stops; logs are in {logs})\n")
                await _watch(supervisor, archive, stop)
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        finally:
            for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(sig, say, "stopping; please wait")
            await supervisor.stop()


async def _watch(supervisor: Supervisor, archive: ClassArchive | None, stop: asyncio.Event) -> None:
    """Keep the parts alive, and meanwhile the archive of the embedded broker, until `stop`."""
    pid = supervisor.pids().get(_BROKER)
    if archive is None or pid is None:
        await supervisor.watch(stop)
        return
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(archive.keep(pid))
        await supervisor.watch(stop)
        keeping.cancel()


async def _start(
    settings: InfraSettings, options: SystemOptions, supervisor: Supervisor, say: Say
) -> tuple[RunningSystem, list[Target], ClassArchive | None]:
    servers, archive = settings.bootstrap_servers, None
    if servers is None:
        servers, archive = await _start_broker(settings, supervisor, say)
    else:
        await asyncio.to_thread(wait_for_kafka, servers, within_s=_FOREIGN_KAFKA_S)
        say(f"{'kafka':<10} yours at {servers}")
    made = await asyncio.to_thread(provision, servers, prefix=settings.topic_prefix, warn=say)
    say(f"{'topics':<10} ready{' ' * 13}{len(made)} made" if made else f"{'topics':<10} ready")
    edges = list(_edges(options, say))
    ports = _management_ports(settings.management_port, [port for _, port in edges])
    env = {"KAFKA_BOOTSTRAP_SERVERS": servers, "TAPEWIRE_VAR_LIMITS": settings.var_limits}
    of_edge = env | {
        "TAPEWIRE_DEMO_JWKS": str(jwks_path(settings.data_dir)),
        "TAPEWIRE_PARTS_FILE": str((settings.data_dir / PARTS).resolve()),
    }
    if options.demo:
        of_edge["TAPEWIRE_NOTICE"] = describe(options.speed)
        say(describe(options.speed))
    if options.examples:
        of_edge |= _examples()
        say(f"{'examples':<10} served by each edge: /live-counter and others, see /docs")
    for (name, _), own in zip(edges, ports, strict=True):
        for port in own.values():
            say(f"{name:<10} metrics and /docs are at port {port}")
    parts = [
        _python("processor", "stream_processors", env | _faust(settings)),
        *(
            _python(name, "sse_edge", of_edge | own | {"TAPEWIRE_PORT": str(port)})
            for (name, port), own in zip(edges, ports, strict=True)
        ),
        _python("trainer", "producers", _models(settings) | env, "trainer"),
        _python("backtester", "producers", env, "backtester"),
        _python(
            "agents",
            "producers",
            env | {"TAPEWIRE_AGENT_NAMES": settings.agent_names},
            "orchestrator",
        ),
        _python("notifier", "stream_processors.notifications", env),
    ]
    try:
        trades = {
            "TAPEWIRE_TRADES_JAR": str(await asyncio.to_thread(trades_jar, settings.maven_url))
        }
        parts.append(_python("market", "producers", trades | env, "market"))
    except DownloadFailed as error:
        say(f"{'market':<10} left out: {error}")
    if options.demo:
        parts.append(_python("demo", "producers", env, "--speed", f"{options.speed:g}"))
    needs = _kafka_at(servers)
    workers = [part.name for part in parts if not part.name.startswith("edge")]
    metrics = take_ports(workers, settings.metrics_port)
    await supervisor.launch(
        *(
            replace(part, needs=needs, env={**part.env, **_metrics_of(part, metrics)})
            for part in parts
        )
    )
    pid, process_started_s = this_process()
    system = RunningSystem(
        url=f"http://localhost:{edges[0][1]}",
        bootstrap_servers=servers,
        cluster_id=await asyncio.to_thread(cluster_id_of, servers, within_s=_FOREIGN_KAFKA_S),
        topic_prefix=settings.topic_prefix,
        var_limits=settings.var_limits,
        pid=pid,
        process_started_s=process_started_s,
    )
    shown = [
        *_edge_targets(settings, [port for _, port in edges], ports),
        *(Target(name, port) for name, port in metrics.items()),
    ]
    return system, shown, archive


def _metrics_of(part: Part, ports: Mapping[str, int]) -> Mapping[str, str]:
    """Return the setting of a part's metrics; edges serve them at a port that they have."""
    return {"TAPEWIRE_METRICS_PORT": str(ports[part.name])} if part.name in ports else {}


def _edge_targets(
    settings: InfraSettings, main_ports: Sequence[int], management: Sequence[Mapping[str, str]]
) -> Iterator[Target]:
    """Yield where edges show their metrics; none of edges that take any port for it."""
    scheme = "https" if os.environ.get("TAPEWIRE_TLS_CERT") else "http"
    if settings.management_port != 0:
        for port, own in zip(main_ports, management, strict=True):
            yield Target("edge", int(own.get("TAPEWIRE_MANAGEMENT_PORT", port)), scheme)


@contextmanager
def _shown(
    settings: InfraSettings, metrics: SystemMetrics, targets: Sequence[Target], say: Say
) -> Generator[None]:
    """Show this process's metrics, and say where all are, until the block ends."""
    [port] = take_ports(["supervisor"], settings.metrics_port).values()
    targets = [*targets, Target("supervisor", port)]
    path = settings.data_dir / TARGETS
    server = serve_metrics(
        MetricsSettings(metrics_port=port, metrics_host=METRICS_HOST), metrics.families
    )
    assert server is not None
    places = ", ".join(f"{target.component} {target.port}" for target in targets)
    say(f"{'metrics':<10} at the ports {places}; {path} is for Prometheus")
    try:
        with targets_file(path, targets):
            yield
    finally:
        server.shutdown()
        server.server_close()


async def _start_broker(
    settings: InfraSettings, supervisor: Supervisor, say: Say
) -> tuple[str, ClassArchive]:
    security = SecuritySettings()
    if not security.is_plain:
        raise InfraError(
            f"KAFKA_SECURITY_PROTOCOL is {security.security_protocol}, but the embedded broker "
            "speaks plain text on loopback; unset it, or name your Kafka by KAFKA_BOOTSTRAP_SERVERS"
        )
    data_dir = settings.data_dir / "kafka"
    source = settings.maven_url or "Maven Central"
    if not data_dir.exists():  # nothing else runs yet
        say(f"{'kafka':<10} is set up: 43 MB of jars come from {source}, once")
    broker = await asyncio.to_thread(
        prepare,
        data_dir,
        free_port(KAFKA_PORT),
        maven_url=settings.maven_url,
        properties=bounded_disk(settings.partition_bytes_max),
    )

    async def answers() -> str:
        await asyncio.to_thread(wait_for_port, broker.port, _BROKER_S)
        await asyncio.to_thread(wait_for_kafka, broker.bootstrap_servers, within_s=_BROKER_S)
        return broker.bootstrap_servers

    command = await asyncio.to_thread(lambda: broker.archived_command)
    await supervisor.start(Part(_BROKER, command, probe=answers))
    say(f"{'kafka':<10} plain text on loopback: every user of this machine can read and write it")
    return broker.bootstrap_servers, broker.archive


def _kafka_at(servers: str) -> Need:
    async def kafka_answers() -> bool:
        return await asyncio.to_thread(answers, servers)

    return Need(f"Kafka at {servers}", kafka_answers)


def _without(states: PartStates) -> str:
    """Return which parts are down, for the line that says that the system has started."""
    down = states.names(PartState.DOWN, PartState.WAITING)
    return f", without {', '.join(down)}: what needs them waits, the rest works" if down else ""


def _edges(options: SystemOptions, say: Say) -> Iterator[tuple[str, int]]:
    """Yield the names and ports of the edges."""
    port = options.port
    for number in range(1, options.edges + 1):
        try:
            free = free_port(port)
        except OSError as error:
            raise InfraError(f"no port from {port} to 65535 is free for an edge") from error
        if free != port:
            say(f"{'edge':<10} port {port} is taken; using {free}")
        yield ("edge" if options.edges == 1 else f"edge-{number}"), free
        port = free + 1


def _management_ports(first: int | None, main_ports: Sequence[int]) -> Sequence[dict[str, str]]:
    """Return for each edge the setting of its management port, if edges have one.

    Args:
        first: the first port; 0 for any, None for no management ports.
        main_ports: the main ports of the edges, none of which listens yet.

    Raises:
        InfraError: no port is free.
    """
    if not first:
        return [{} for _ in main_ports]  # edges inherit the setting itself
    ports: list[int] = []
    port = first
    while len(ports) < len(main_ports):
        try:
            port = free_port(port)
        except OSError as error:
            raise InfraError(
                f"no port from {first} to 65535 is free for metrics and documentation"
            ) from error
        if port not in main_ports:
            ports.append(port)
        port += 1
    return [{"TAPEWIRE_MANAGEMENT_PORT": str(port)} for port in ports]


def _examples() -> dict[str, str]:
    """Return the settings by which an edge serves the examples of `SSEResponse`.

    Raises:
        InfraError: this is a wheel, which has no examples.
    """
    if not _EXAMPLES.is_dir():
        raise InfraError(f"--examples: there is no {_EXAMPLES}; the examples are in the checkout")
    path = os.pathsep.join(filter(None, (str(_EXAMPLES), os.environ.get("PYTHONPATH"))))
    routers = ",".join(filter(None, (os.environ.get("TAPEWIRE_ROUTERS"), _EXAMPLES_ROUTER)))
    return {"TAPEWIRE_ROUTERS": routers, "PYTHONPATH": path}


def _models(settings: InfraSettings) -> dict[str, str]:
    """Return the setting of the folder of trained models, unless the environment has it."""
    folder = os.environ.get("TAPEWIRE_MODELS_DIR") or str(settings.data_dir / "models")
    return {"TAPEWIRE_MODELS_DIR": folder}


def _faust(settings: InfraSettings) -> dict[str, str]:
    """Return the setting of the folder of Faust's files, unless the environment has it."""
    folder = os.environ.get("TAPEWIRE_WORK_DIR") or str(settings.data_dir / "faust")
    return {"TAPEWIRE_WORK_DIR": folder}


def _python(name: str, module: str, env: dict[str, str], *arguments: str) -> Part:
    return Part(name, (sys.executable, "-m", module_name(module), *arguments), env)
