"""Generates the reference pages from the code: `python -m docs.generate`, or `make reference`.

A test fails when a committed page differs from its generated text.
"""

import ast
import importlib
import inspect
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, NoneType
from typing import Annotated, get_args, get_origin

import typer.main
from annotated_types import Ge, Le, MaxLen
from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from pydantic import AfterValidator, AllowInfNan, StringConstraints
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typer.cli import get_docs_for_click

from analytics.lake_counts import LakeCounts
from analytics.lake_settings import LakeSettings
from analytics.sinks.settings import SinkSettings
from analytics.sql.settings import SqlSettings
from cli.app import cli
from infra import chart_files
from infra.acls import PARTS, Operation, Resource, grants_of
from infra.part_states import PartState, PartStates
from infra.settings import InfraSettings
from infra.system_metrics import SystemMetrics
from kafka_io.counts import Counts
from kafka_io.part_metrics import (
    build_families,
    count_families,
    dead_letter_family,
    expiration_family,
    token_families,
)
from kafka_io.schema_registry import SchemaRegistrySettings
from kafka_io.security import SecuritySettings
from kafka_io.settings import MetricsSettings, ProducerSettings, number_range, variable_of
from kafka_io.stage_times import Stage
from kafka_io.tokens import Token, TokenSource
from producers.settings import (
    BacktesterSettings,
    MarketSettings,
    OrchestratorSettings,
    TrainerSettings,
)
from schemas import bounds
from schemas.codec import fingerprint_of, versions
from schemas.registry import field_names, part_fields
from schemas.topics import REGISTRY, TopicPartition
from sse_edge.errors import EdgeError
from sse_edge.metrics.node_metrics import Gauges, KeySetReads, NodeMetrics
from sse_edge.settings import EdgeSettings
from stream_processors.metrics import Progress, WorkerMetrics
from stream_processors.notifications.settings import NotifierSettings
from stream_processors.settings import ProcessorSettings

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"

_SETTINGS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Encryption and authentication of Kafka", SecuritySettings),
    ("Schema registry", SchemaRegistrySettings),
    ("Publisher and reader", ProducerSettings),
    ("Metrics of processors and other workers", MetricsSettings),
    ("`tapewire`", InfraSettings),
    ("Trainers", TrainerSettings),
    ("Backtesters", BacktesterSettings),
    ("Market data", MarketSettings),
    ("Agents", OrchestratorSettings),
    ("Processors", ProcessorSettings),
    ("Notifiers, beside those of processors", NotifierSettings),
    ("Edges", EdgeSettings),
    ("Tables in a lake", SinkSettings),
    ("`tapewire lake run`", LakeSettings),
    ("SQL", SqlSettings),
)
_ERRORS = (
    "schemas.errors",
    "kafka_io.errors",
    "producers.errors",
    "stream_processors.errors",
    "sse_edge.errors",
    "infra.errors",
    "analytics.errors",
    "cli.errors",
)
_OF_VALUES = ("Items", "Table", "EventTable")
_BOUNDS = {
    name: bound
    for name, bound in vars(bounds).items()
    if get_origin(bound) is Annotated and name not in _OF_VALUES
}
_SUFFIXES = {"counter": "_total", "info": "_info"}
"""What Prometheus' text adds to the names of metrics, by their type."""
_FOLDERS = (
    "schemas",
    "kafka_io",
    "producers",
    "stream_processors",
    "sse_edge",
    "analytics",
    "infra",
    "cli",
)


def pages() -> dict[str, str]:
    """Return the text of each generated page, by its path below `docs`."""
    return {
        "reference/settings.md": _settings(),
        "reference/access.md": _access(),
        "reference/metrics.md": _metrics(),
        "reference/errors.md": _errors(),
        "reference/events.md": _events(),
        "reference/command-line.md": _command_line(),
        "internals/file-map.md": _file_map(),
    }


def main() -> None:
    """Write the pages, and the chart's files of topics and access."""
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
    chart_files.main()


def _page(title: str, introduction: str, parts: Iterable[str]) -> str:
    return "\n\n".join((f"# {title}", introduction, *parts)).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _settings() -> str:
    parts = []
    for title, kind in _SETTINGS:
        documented = attribute_docs(kind)
        rows = []
        inherited = kind.__mro__[1].__dict__.get("__pydantic_fields__", {})
        for name, field in kind.model_fields.items():
            if name in inherited:
                continue
            allowed = number_range(field)
            value = field.default
            default = "unset" if value in (None, PydanticUndefined) else _shown(value)
            meaning = _one_line(documented.get(name, ""))
            if allowed is not None:
                meaning = f"{meaning} Allowed: {allowed}."
            rows.append((f"`{variable_of(kind, name)}`", default, meaning))
        parts.append(f"## {title}\n\n" + _table(("variable", "default", "meaning"), rows))
    return _page(
        "Settings",
        "All settings are environment variables. `KAFKA_BOOTSTRAP_SERVERS` names a Kafka of your "
        "own for every part; `tapewire up` then starts no broker.",
        parts,
    )


def _access() -> str:
    parts = []
    for part, access in PARTS.items():
        rows = []
        grants = grants_of(part, version="VERSION" if access.rebuilds else None)
        for operation in Operation:
            for resource in Resource:
                names = [
                    f"`{grant.name}{'*' if grant.is_prefix else ''}`"
                    for grant in grants
                    if (grant.operation, grant.resource) == (operation, resource)
                ]
                if names:
                    kind = resource.name.lower().replace("_", " ")
                    rows.append((operation.name, kind, ", ".join(names)))
        head = ("operation", "on", "names")
        parts.append(f"## {part}\n\n{access.purpose}.\n\n" + _table(head, rows))
    return _page(
        "Access to Kafka",
        "The ACLs of each part, for a principal of its own. `tapewire topics acls` prints them as "
        "commands for Kafka's `kafka-acls.sh`. Each name has the prefix of the system's topics "
        "before it; `*` marks ACLs whose pattern type is prefixed, and `VERSION` is the name of a "
        "rebuild. READ, WRITE and ALTER of a topic include DESCRIBE, and READ of a group includes "
        "DESCRIBE. Brokers before Kafka 3.0 need IDEMPOTENT_WRITE on the cluster for each part "
        "that writes.",
        parts,
    )


def _shown(value: object) -> str:
    if value in ("", (), {}):
        return "empty"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`"


def metric_parts() -> Sequence[tuple[str, str, Iterable[Metric]]]:
    """Return the name of each kind of part, a text about it, and its metrics with samples."""
    return (
        (
            "Edges",
            "An edge serves these at `/metrics`. With `--workers`, each has the label `worker`.",
            _edge_families(),
        ),
        (
            "Processors and notifiers",
            "They serve these on `TAPEWIRE_METRICS_PORT`, if it is set.",
            _worker_families(),
        ),
        (
            "All parts",
            "All parts have these; those of commands are of trainers, backtesters and agents.",
            _part_families(),
        ),
        (
            "Lakes",
            "`tapewire lake run` serves these on `TAPEWIRE_METRICS_PORT`, if it is set.",
            _lake_families(),
        ),
        (
            "Supervisor",
            "`tapewire up` serves these itself.",
            _system_families(),
        ),
    )


def _metrics() -> str:
    return _page(
        "Metrics",
        "Prometheus reads them over HTTP, as text or as OpenMetrics, which leads from histograms "
        "to traces. The names of topics have the system's prefix.",
        [
            f"## {title}\n\n{text}\n\n{_families(families)}"
            for title, text, families in metric_parts()
        ],
    )


def _edge_families() -> Iterable[Metric]:
    metrics = NodeMetrics()
    metrics.skipped["x", "x"] = 1
    metrics.of("x").observe_lag(0.0, 1)
    metrics.key_set = KeySetReads()
    metrics.key_set.succeeded_s = 1.0
    gauges = Gauges()
    gauges.connections = {("x", "x"): 1.0}
    for values in (
        gauges.window_bytes,
        gauges.window_age_s,
        gauges.leaders,
        gauges.log_ends,
        gauges.stuck_s,
    ):
        values["x", "0"] = 1.0
    return metrics.families(gauges)


def _worker_families() -> Iterable[Metric]:
    metrics = WorkerMetrics()
    metrics.expect(["x"])
    metrics.refused["x", "x"] = 1
    metrics.progress = lambda: {TopicPartition("x", 0): Progress(1, 1)}
    metrics.open_alerts = lambda: {("x", True): 1}
    return metrics.families()


def _lake_families() -> Iterable[Metric]:
    counts = LakeCounts(lag={"x": 1})
    counts.rows["x"] += 1
    return counts.families()


def _system_families() -> Iterable[Metric]:
    states = PartStates(None)
    states.set("x", PartState.UP)
    with TemporaryDirectory() as folder:
        (Path(folder) / "kafka" / "log" / "x-0").mkdir(parents=True)
        yield from SystemMetrics(states, lambda: {"x": os.getpid()}, Path(folder)).families()


def _part_families() -> Iterable[Metric]:
    counts = Counts()
    counts.stages.observe(Stage.LOG_TO_EDGE, 0.0)
    counts.published["x"] = counts.refused["x"] = counts.running["x"] = 1
    counts.commands["x", "x"] = counts.dead_letters["x", "x"] = 1
    counts.lags["x"] = lambda: {("x", 0): 1}
    token = TokenSource(lambda: Token("x", 1.0))
    token.token()
    yield from build_families()
    yield from ProcessCollector(registry=None).collect()
    yield from count_families(counts)
    yield dead_letter_family(counts.dead_letters)
    yield expiration_family([("x", 1.0)])
    yield from token_families(token)


def _families(families: Iterable[Metric]) -> str:
    rows = []
    for family in families:
        name = family.name + _SUFFIXES.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        named = ", ".join(f"`{label}`" for label in labels)
        rows.append((f"`{name}`", family.type, named, family.documentation))
    return _table(("metric", "type", "labels", "meaning"), rows)


def _errors() -> str:
    parts = []
    for name in _ERRORS:
        module = importlib.import_module(name)
        title, _, tree = (module.__doc__ or "").strip().partition("\n")
        parts.append(f"## `{name}`\n\n{title}\n\n```text\n{tree.strip()}\n```")
    rows = [
        (str(error.status), f"`{error.__name__}`", error.title, _one_line(error.__doc__ or ""))
        for error in sorted(
            _subclasses(EdgeError), key=lambda error: (error.status, error.__name__)
        )
    ]
    http = (
        "## HTTP\n\nAn edge answers with problem+json (RFC 9457), which has `title`, `status` and "
    )
    http += "`detail`.\n\n" + _table(("status", "error", "title", "meaning"), rows)
    return _page(
        "Errors", "The exceptions of each folder, and how an edge answers.", [http, *parts]
    )


def _subclasses(kind: type[EdgeError]) -> list[type[EdgeError]]:
    return [found for child in kind.__subclasses__() for found in (child, *_subclasses(child))]


def _events() -> str:
    rows = []
    parts = []
    nested: dict[str, type] = {}
    for registration in REGISTRY:
        topic, kind = registration.topic, registration.record
        kept = "newest of each key" if topic.retention_ms is None else _days(topic.retention_ms)
        if topic.compacted:
            kept = f"newest of each key, {kept}"
        version = str(len(versions(kind.__name__)))
        fingerprint = f"`{fingerprint_of(kind).hex()}`"
        has_key = topic.subject is not None and kind is topic.record
        key = f"`{topic.subject}`" if has_key else ""
        link = f"[{kind.__name__}](#{kind.__name__.lower()})"
        rows.append(
            (f"`{topic.name}`", link, key, str(topic.partitions), kept, version, fingerprint)
        )
        parts.append(_class(kind, 2))
        nested |= {part.__name__: part for part in part_fields(kind).values()}
    registered = {registration.record.__name__ for registration in REGISTRY}
    parts += [_class(kind, 2) for name, kind in sorted(nested.items()) if name not in registered]
    head = ("topic", "record", "key", "partitions", "kept", "schema version", "fingerprint")
    return _page(
        "Events",
        "The topics of the catalogue, and the records that they carry. Values are Avro in "
        "single-object encoding; the schemas are in `schemas/avro/NAME/VERSION.avsc`. Times are "
        "microseconds since 1970 UTC. A record with a field out of its bounds is refused: a "
        "publisher raises, an edge skips it, and a processor makes a dead letter of it.",
        [_table(head, rows), _bounds(), *parts],
    )


def _class(kind: type, level: int) -> str:
    documented = attribute_docs(kind)
    annotations = kind.__annotations__
    rows = [
        (f"`{name}`", f"`{_type_text(annotations[name])}`", _one_line(documented.get(name, "")))
        for name in field_names(kind)
    ]
    title = f"{'#' * level} {kind.__name__}"
    return f"{title}\n\n{inspect.getdoc(kind)}\n\n" + _table(("field", "type", "meaning"), rows)


def _type_text(annotation: object) -> str:
    """Return a type as the page writes it: by the name of its bound, where it has one."""
    if annotation is NoneType:
        return "None"
    for name, bound in _BOUNDS.items():
        if annotation == bound:
            return name
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:  # a list or a table of values with a bound
        values = get_args(arguments[0])[-1]
        names = (
            name
            for name in _OF_VALUES
            if get_origin(arguments[0]) is get_origin(get_args(getattr(bounds, name))[0])
            and arguments[1:] == get_args(getattr(bounds, name))[1:]
        )
        return f"{next(names)}[{_type_text(values)}]"
    if arguments:
        return " | ".join(map(_type_text, arguments))
    assert isinstance(annotation, type)
    return annotation.__name__


def _bounds() -> str:
    """Return the table of bounds."""
    documented = _module_docs(bounds)
    rows = [(f"`{name}`", _limits(bound), documented[name]) for name, bound in _BOUNDS.items()]
    rows += [
        (f"`{name}[...]`", f"at most {bounds.ITEMS_MAX:,} items", documented[name])
        for name in _OF_VALUES
    ]
    return "## Types\n\n" + _table(("type", "bounds", "meaning"), rows)


def _limits(bound: object) -> str:
    """Return the limits of a type in words."""
    kind, *limits = get_args(bound)
    unit = "bytes" if kind is bytes else "characters"
    texts = [f"{kind.__name__}"]
    for limit in limits:
        match limit:
            case MaxLen():
                texts.append(f"at most {limit.max_length:,} {unit}")
            case Ge():
                texts.append(f"from {limit.ge}")
            case Le():
                texts.append(f"to {limit.le}")
            case AllowInfNan():
                texts.append("any" if limit.allow_inf_nan else "finite")
            case StringConstraints():
                texts.append("letters, digits, _ and - only")
            case AfterValidator():
                texts.append(f"JSON of at most {bounds.JSON_DEPTH_MAX} levels")
            case _:
                texts.append("not far ahead of the log's time")
    return ", ".join(texts)


def _module_docs(module: ModuleType) -> dict[str, str]:
    """Return the docstrings that follow the names of a module."""
    body = ast.parse(inspect.getsource(module)).body
    return {
        node.targets[0].id: _one_line(str(after.value.value))
        for node, after in pairwise(body)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def _days(retention_ms: int) -> str:
    if retention_ms < 0:
        return "for ever"
    hours = retention_ms // 3_600_000
    return f"{hours // 24} days" if hours > 24 else f"{hours} h"  # noqa: PLR2004  # hours a day


def _command_line() -> str:
    command = typer.main.get_command(cli)
    context = typer.Context(command, info_name="tapewire")
    text = get_docs_for_click(obj=command, ctx=context, name="tapewire", title="Command line")
    return text.strip() + "\n"


def _file_map() -> str:
    parts = []
    for folder in _FOLDERS:
        rows = []
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            rows.append((f"`{name}`", _one_line(doc.split("\n\n")[0])))
        parts.append(f"## `{folder}`\n\n" + _table(("file", "what it holds"), rows))
    return _page(
        "File map",
        "Every Python file of the product, with the first sentence of its docstring.",
        parts,
    )


def attribute_docs(kind: type) -> dict[str, str]:
    """Return the docstrings that follow the fields of a class and of its bases, by field."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if part.__module__.partition(".")[0] in _FOLDERS:
            found |= _own_attribute_docs(part)
    return found


def _own_attribute_docs(kind: type) -> dict[str, str]:
    module = inspect.getmodule(kind)
    assert isinstance(module, ModuleType)
    tree = ast.parse(inspect.getsource(module))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ClassDef) and node.name == kind.__name__):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                assert isinstance(after, ast.Expr)
                assert isinstance(after.value, ast.Constant)
                found[field.target.id] = inspect.cleandoc(str(after.value.value))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
