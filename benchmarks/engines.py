"""The cost of tables by each engine, for a million events: `make bench-engines`.

One topic of `RiskMeasure` in Confluent framing, with three partitions, is read by each engine to
its end: by `tapewire lake run`, by the job of Spark and by Kafka Connect, which all write a row for
each event, and by Flink, which writes the windows of `examples/flink/daily_var.sql`. Each runs
twice in new folders, over few events and over many. The first run is the cost of a start; the
difference, by the difference of events, is the cost of a million. A JVM compiles more of its code
in the longer run, and that is part of the difference.

CPU time is that of all processes of an engine, user and system; memory is the most that they held
together, looked at five times a second. Kafka and the registry are not counted. Times are not
shown: Kafka Connect waits between commits, and a shared machine changes them more than CPU time.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from analytics.engines.connect_sink import NAMESPACE, open_catalog
from analytics.engines.flink_tables import table_statement
from analytics.engines.plan import fingerprint_hex, make_plan
from benchmarks.broker import running_kafka
from cli.schemas import register
from infra.maven import fetch
from infra.settings import InfraSettings
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from schemas.codec import encode, versions
from schemas.events import RiskMeasure
from tests.support.apicurio import Apicurio
from tests.support.connect_worker import ConnectWorker

_ROOT = Path(__file__).parents[1]
_ENGINES = _ROOT / "build" / "engines"
_LOCK = _ROOT / "tests" / "analytics" / "engines" / "flink.lock.toml"
_QUERY = _ROOT / "examples" / "flink" / "daily_var.sql"
_PARTITIONS = 3
_PORTFOLIOS = 20
_FIRST_US = 1_700_006_400_000_000
_HEAD_BYTES = 10
_SAMPLE_S = 0.2
_WITHIN_S = 600.0
_MILLION = 1_000_000


class Cost(NamedTuple):
    """The CPU time and memory of an engine in one run."""

    cpu_s: float
    memory_mib: float


@dataclass(frozen=True)
class Scene:
    """A topic of events, and what engines need to read it."""

    servers: str
    registry: Apicurio
    prefix: str
    ids: Mapping[str, list[int]]
    """The registry's ids of the class's versions, by fingerprint."""
    events: int
    folder: Path

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the settings of Tapewire's own programs."""
        return {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "TAPEWIRE_TOPIC_PREFIX": self.prefix,
            "TAPEWIRE_SCHEMA_REGISTRY_URL": self.registry.url,
            **settings,
        }


class Meter:
    """Adds up the processes that a program consists of."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._peak = 0

    def look(self) -> None:
        """Take the present CPU times and memory."""
        held = 0
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                with process.oneshot():
                    spent = process.cpu_times()
                    held += process.memory_info().rss
                    key = process.pid, process.create_time()
            except psutil.NoSuchProcess:
                continue
            self._cpu_s[key] = spent.user + spent.system
        self._peak = max(self._peak, held)

    def cost(self) -> Cost:
        """Return what the processes have taken until now."""
        return Cost(sum(self._cpu_s.values()), self._peak / (1 << 20))


def _measure(command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> Cost:
    """Run a program to its end."""
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603  # programs of this repository
            command, stdout=out, stderr=out, env=env, cwd=_ROOT, start_new_session=True
        )
    meter = Meter(process.pid)
    try:
        _look_until(lambda: process.poll() is not None, meter)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"{command[0]} ended with {process.returncode}: {text[-3_000:]}")
    return meter.cost()


def _look_until(is_done: Callable[[], bool], meter: Meter) -> None:
    until = time.monotonic() + _WITHIN_S
    while not is_done():
        meter.look()
        if time.monotonic() > until:
            raise TimeoutError(f"an engine took more than {_WITHIN_S:.0f} s")
        time.sleep(_SAMPLE_S)


def _own(table_format: str) -> Callable[[Scene], Cost]:
    def run(scene: Scene) -> Cost:
        lake = f"{table_format}:{scene.folder}/own-{table_format}"
        given = ["lake", "run", "--to", lake, "--tables", "risk_measure", "--once"]
        command = [sys.executable, "-m", "cli", *given]
        return _measure(command, scene.folder / "own.log", env=scene.environment())

    return run


def _spark(table_format: str) -> Callable[[Scene], Cost]:
    def run(scene: Scene) -> Cost:
        plan = scene.folder / "plan.json"
        plan.write_text(json.dumps(make_plan(["RiskMeasure"], prefix=scene.prefix, ids=scene.ids)))
        given = {
            "--plan": str(plan),
            "--servers": scene.servers,
            "--lake": str(scene.folder / "spark"),
            "--format": table_format,
            "--ivy": str(_ENGINES / "ivy"),
        }
        python = str(_ENGINES / "spark" / "bin" / "python")
        job = str(_ROOT / "analytics" / "engines" / "spark_job.py")
        command = [python, job, *(word for pair in given.items() for word in pair)]
        return _measure(command, scene.folder / "spark.log")

    return run


def _connect(scene: Scene) -> Cost:
    lake, out = scene.folder / "connect", scene.folder / "connectors"
    given = {
        "--registry": f"{scene.registry.root}/apis/registry/v2",
        "--lake": str(lake),
        "--commit-s": "10",
        "--out": str(out),
    }
    module = "analytics.engines.connect_sink"
    command = [sys.executable, "-m", module, "RiskMeasure"]
    command += [word for pair in given.items() for word in pair]
    log = scene.folder / "connect-sink.log"
    _measure(command, log, env=scene.environment())
    worker = ConnectWorker(_ENGINES / "connect", scene.servers, scene.folder, memory="1g")
    worker.start(list(out.iterdir()))
    try:
        meter = Meter(worker.pid)
        _look_until(lambda: _rows(lake) >= scene.events, meter)
        worker.check()
        return meter.cost()
    finally:
        worker.stop()


def _rows(lake: Path) -> int:
    state = open_catalog(lake).load_table((NAMESPACE, "risk_measure")).current_snapshot()
    summary: Any = None if state is None else state.summary
    return 0 if summary is None else int(summary["total-records"])


def _flink(scene: Scene) -> Cost:
    [home] = (_ENGINES / "flink").glob("lib/python3*/site-packages/pyflink")
    locked = tomllib.loads(_LOCK.read_text(encoding="utf-8"))["sha256"]
    *jars, gateway = fetch(locked, InfraSettings().maven_url)
    settings = scene.folder / "flink-conf"
    settings.mkdir()
    (settings / "config.yaml").write_text(
        "table:\n  local-time-zone: UTC\ntaskmanager:\n  numberOfTaskSlots: 2\n"
        "parallelism:\n  default: 2\n"
    )
    tables, query = scene.folder / "tables.sql", scene.folder / "query.sql"
    tables.write_text(
        table_statement(
            "RiskMeasure",
            servers=scene.servers,
            registry=scene.registry.url,
            prefix=scene.prefix,
            bounded=True,
        )
    )
    out = scene.folder / "daily_var"
    query.write_text(_QUERY.read_text(encoding="utf-8").replace("/tmp/daily_var", str(out)))  # noqa: S108  # the example's
    return _measure(
        [
            *(str(home / "bin" / "sql-client.sh"), "-i", str(tables), "-f", str(query)),
            *(word for jar in jars for word in ("-j", str(jar))),
        ],
        scene.folder / "flink.log",
        env={
            **os.environ,
            "FLINK_HOME": str(home),
            "HADOOP_CLASSPATH": str(gateway),
            "FLINK_CONF_DIR": str(settings),
            "FLINK_LOG_DIR": str(scene.folder),
        },
    )


ENGINES: Mapping[str, tuple[str, Callable[[Scene], Cost]]] = {
    "own-parquet": ("tapewire lake run, Parquet", _own("parquet")),
    "own-delta": ("tapewire lake run, Delta", _own("delta")),
    "own-iceberg": ("tapewire lake run, Iceberg", _own("iceberg")),
    "spark-delta": ("Spark, Delta", _spark("delta")),
    "spark-iceberg": ("Spark, Iceberg", _spark("iceberg")),
    "connect": ("Kafka Connect, Iceberg", _connect),
    "flink": ("Flink, windows of a day", _flink),
}


def _values(schema_id: int, events: int) -> Iterator[bytes]:
    head = b"\0" + schema_id.to_bytes(4)
    for number in range(events):
        name, at_us = f"p{number % _PORTFOLIOS}", _FIRST_US + number * 1_000_000
        measure = RiskMeasure(
            portfolio_id=name,
            as_of_us=at_us,
            method="historical",
            status="ok",
            observations=250,
            var_95=0.02 + number % 100 / 10_000,
            event_id=f"{name}-{at_us}",
            source_topic="portfolio.returns",
            source_partition=0,
            source_offset=number,
        )
        yield head + encode(measure)[_HEAD_BYTES:]


def _scene(servers: str, registry: Apicurio, events: int, folder: Path) -> Scene:
    """Write the events of a run into topics of their own."""
    prefix = f"bench-{events}-{os.getpid()}."
    with SchemaRegistry(SchemaRegistrySettings(url=registry.url)) as client:
        found = {change.subject: change.ids for change in register(client, prefix)}
    ids = found[f"{prefix}risk.measures-value"]
    admin = AdminClient({"bootstrap.servers": servers})
    topic = f"{prefix}risk.measures"
    control = NewTopic(f"{prefix}connect.iceberg.control", 1, 1)
    for made in admin.create_topics([NewTopic(topic, _PARTITIONS, 1), control]).values():
        made.result()
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 50})
    for number, value in enumerate(_values(ids[-1], events)):
        producer.produce(topic, value, partition=number % _PORTFOLIOS % _PARTITIONS)
        producer.poll(0)
        if number % 10_000 == 0:
            producer.flush()
    if producer.flush(60):
        raise SystemExit("Kafka does not take the events")
    marks = [fingerprint_hex(schema) for schema in versions("RiskMeasure")]
    known = {mark: [schema_id] for mark, schema_id in zip(marks, ids, strict=True)}
    return Scene(servers, registry, prefix, known, events, folder)


def _row(label: str, few: tuple[int, Cost], many: tuple[int, Cost]) -> str:
    (few_events, start), (events, cost) = few, many
    more = (events - few_events) / _MILLION
    cpu_s = (cost.cpu_s - start.cpu_s) / more
    memory = f"{start.memory_mib:,.0f}, {cost.memory_mib:,.0f} MiB"
    return f"| {label} | {start.cpu_s:.1f} s | {cpu_s:.0f} s | {memory} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of the costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("engines", nargs="*", help=f"some of {', '.join(ENGINES)}; all without")
    parser.add_argument("--events", type=int, default=200_000, help="the events of the longer run")
    given = parser.parse_args(arguments)
    unknown = set(given.engines) - ENGINES.keys()
    if unknown:
        parser.error(f"there is no engine {', '.join(sorted(unknown))}")
    few = max(1, given.events // 100)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = stack.enter_context(running_kafka())
        registry = Apicurio(servers, f"schemas-{os.getpid()}", folder / "registry.log")
        stack.callback(registry.stop)
        registry.start()
        scenes = []
        for events in (few, given.events):
            (folder / str(events)).mkdir()
            scenes.append(_scene(servers, registry, events, folder / str(events)))
        sys.stdout.write(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}; runs of {few:,} and "
            f"{given.events:,} events\n\n"
            "| engine | CPU of a start | CPU of a million events | most memory of both runs |\n"
            "| --- | --- | --- | --- |\n"
        )
        for name in given.engines or ENGINES:
            label, run = ENGINES[name]
            start, cost = (run(scene) for scene in scenes)
            sys.stdout.write(_row(label, (few, start), (given.events, cost)) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
