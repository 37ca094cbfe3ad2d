"""Rules for the code base that no linter has.

Lists of exceptions can only become shorter: an entry that is no longer needed fails its test.
"""

import ast
import gc
import importlib
import io
import re
import tokenize
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from analytics.lake_settings import LakeSettings
from analytics.sinks.settings import SinkSettings
from analytics.sql.settings import SqlSettings
from docs.generate import attribute_docs
from infra.settings import InfraSettings
from kafka_io.schema_registry import SchemaRegistrySettings
from kafka_io.security import SecuritySettings
from kafka_io.settings import ProducerSettings
from producers.settings import (
    BacktesterSettings,
    MarketSettings,
    OrchestratorSettings,
    TrainerSettings,
)
from sse_edge.settings import EdgeSettings
from stream_processors.settings import ProcessorSettings

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "schemas",
    "kafka_io",
    "producers",
    "stream_processors",
    "sse_edge",
    "infra",
    "cli",
    "analytics",
    "tapewire",
    "build_tools",
    "docs",
)
OTHERS = ("tests", "benchmarks", "examples")

TESTED_ELSEWHERE = {
    "analytics/sinks/base.py": "protocols and values without logic",
    "analytics/sinks/settings.py": "tests/docs/test_reference.py",
    "cli/__main__.py": "tests/cli/commands",
    "cli/app.py": "tests/cli/commands",
    "cli/commands/audit.py": "tests/cli/commands/test_commands.py",
    "cli/commands/install.py": "tests/cli/commands/test_commands.py",
    "cli/commands/lake_run.py": "tests/cli/commands/test_commands.py",
    "cli/commands/limits.py": "tests/cli/commands/test_commands.py",
    "cli/commands/scenarios.py": "tests/cli/commands/test_commands.py",
    "cli/commands/schemas.py": "tests/cli/commands/test_commands.py",
    "cli/commands/rebuild.py": "tests/cli/commands/test_commands.py",
    "cli/commands/risk.py": "tests/cli/commands/test_commands.py",
    "cli/commands/system.py": "tests/cli/commands/test_commands.py",
    "cli/commands/task.py": "tests/cli/commands/test_commands.py",
    "cli/commands/topics.py": "tests/cli/commands/test_commands.py",
    "docs/conf.py": "`make check` builds the pages with it",
    "docs/generate.py": "tests/docs/test_reference.py",
    "infra/__main__.py": "tests/infra/test_main.py",
    "kafka_io/connections.py": "tests/journeys/test_secured_kafka.py",
    "kafka_io/refusals.py": "tests/kafka_io/test_publisher_refusals.py",
    "producers/__main__.py": "tests/producers/test_main.py",
    "schemas/events/agents.py": "tests/schemas/events/test_event_ids.py",
    "schemas/events/backtest.py": "tests/schemas/events/test_event_ids.py",
    "schemas/events/base.py": "protocols",
    "schemas/events/books.py": "tests/stream_processors/books",
    "schemas/events/chat.py": "values without logic",
    "schemas/events/dashboard.py": "tests/stream_processors/windowing",
    "schemas/events/market.py": "tests/stream_processors/windowing/test_candles.py",
    "schemas/events/notifications.py": "tests/stream_processors/notifications",
    "schemas/events/operations.py": "tests/schemas/events/test_event_ids.py",
    "schemas/events/risk.py": "tests/stream_processors/risk",
    "schemas/events/stress.py": "tests/sse_edge/routes/test_scenarios.py",
    "schemas/events/training.py": "tests/schemas/events/test_event_ids.py",
    "schemas/vocabularies.py": "values without logic",
    "sse_edge/__main__.py": "tests/journeys/test_up.py starts edges by it",
    "sse_edge/delivery/connection.py": "tests/sse_edge/delivery, divided by behaviour",
    "sse_edge/delivery/options.py": "values without logic",
    "sse_edge/http/dependencies.py": "every test of a route",
    "sse_edge/http/guard.py": "tests/attacks",
    "sse_edge/http/tls.py": "tests/attacks/test_encryption.py",
    "sse_edge/http/web_pages.py": "tests/attacks/test_web_pages.py",
    "sse_edge/log/protocol.py": "tests/sse_edge/log/test_log_promises.py",
    "sse_edge/log/record.py": "values without logic",
    "sse_edge/routes/agents.py": "tests/journeys/test_agents.py",
    "sse_edge/routes/alerts.py": "tests/journeys/test_desk.py",
    "sse_edge/routes/backtest_socket.py": "tests/journeys/test_backtest_jobs.py",
    "sse_edge/routes/backtests.py": "tests/journeys/test_backtest_jobs.py",
    "sse_edge/routes/books.py": "tests/journeys/test_books.py",
    "sse_edge/routes/channels.py": "tests/sse_edge/test_app.py",
    "sse_edge/routes/chat.py": "tests/journeys/test_chat.py",
    "sse_edge/routes/training.py": "tests/journeys/test_training_tasks.py",
    "sse_edge/streams/examples.py": "tests/sse_edge/http/test_openapi.py",
    "sse_edge/transport.py": "tests/sse_edge/http/test_protocol.py",
    "stream_processors/notifications/__main__.py": (
        "tests/stream_processors/notifications/test_main.py"
    ),
    "stream_processors/notifications/app.py": "tests/journeys/test_notifications.py",
    "stream_processors/__main__.py": "tests/stream_processors/test_main.py",
    "cli/commands/export.py": "tests/cli/commands/test_commands.py",
    "cli/commands/sql.py": "tests/cli/commands/test_commands.py",
    "cli/commands/aggregates.py": "tests/cli/commands/test_commands.py",
    "analytics/sql/aggregates.py": "tests/analytics/test_aggregate_keeper.py",
    "analytics/sql/settings.py": "tests/analytics/sql/test_session.py",
    "cli/commands/dead_letters.py": "tests/cli/commands/test_commands.py",
    "cli/commands/backup.py": "tests/journeys/test_backup.py",
    "cli/commands/lake_upkeep.py": "tests/cli/test_lake_upkeep.py",
    "cli/commands/connections.py": "tests/cli/commands/test_commands.py",
    "cli/commands/status.py": "tests/journeys/test_operator.py",
    "cli/commands/tenant.py": "tests/cli/commands/test_commands.py",
    "kafka_io/erasures.py": "tests/journeys/test_erasure.py",
    "stream_processors/risk/limited.py": "tests/stream_processors/risk/test_alerts.py",
    "stream_processors/rekey.py": "tests/journeys/test_upgrade.py",
    "stream_processors/books/config.py": "values without logic",
    "tapewire/__main__.py": "tests/packaging/test_wheel.py",
}
"""Modules without a test of their own name, and where they are tested."""

HOUSE_WORDS = re.compile(
    r"^_?(said|told|tell|worded|whose|whoever|wishes|turnstile|audience|bell|ringing|attend|desert"
    r"|breathe|upto|wanted|taken|one|ones|some|stories|news)$"
)
"""Names that say a role in a story instead of what a value is."""
FIELD_NAMES = {"audience", "wanted", "wanted_by"}
"""Names that JWT or the schemas give."""

HOUSE_TEST_NAMES = re.compile(r"_(nobody|somebody|whoever|ones_own|worded|told|said)(_|s_|$)")
"""Words in tests' names that say less than what holds."""

RIDDLE = re.compile(r"^(Who|Whose|Whom|Whoever|What|Whatever)\b[^?]*\.", re.MULTILINE)


@pytest.fixture(autouse=True, scope="module")
def _without_garbage() -> Generator[None]:
    """Let no garbage of other tests be logged while a file is parsed.

    A traceback is formatted by parsing, too, and CPython 3.11 refuses to do both at once with a
    `SystemError`.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def documented(path: Path) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield the name, node and docstring of each module, class and function of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), node, text


def test_each_module_has_a_test_of_its_own_name() -> None:
    without = {
        name_of(path)
        for path in files(*PACKAGES)
        if path.name not in {"__init__.py", "errors.py"}
        and not (ROOT / "tests" / path.relative_to(ROOT)).with_name(f"test_{path.name}").exists()
    }
    assert without == set(TESTED_ELSEWHERE)
    for where in TESTED_ELSEWHERE.values():
        path = where.partition(" ")[0].rstrip(",;")
        assert not path.startswith("tests/") or (ROOT / path).exists(), where


@pytest.mark.parametrize(
    "module",
    [
        "analytics.sinks",
        "schemas",
        "kafka_io",
        "producers",
        "stream_processors",
        "sse_edge",
        "infra",
        "cli",
    ],
)
def test_the_tree_of_errors_is_complete(module: str) -> None:
    errors = importlib.import_module(f"{module}.errors")
    tree = errors.__doc__ or ""
    in_tree = re.findall(r"^[│├└─ ]*(\w+)(?: {2,}.*)?$", tree, re.MULTILINE)
    defined = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
    ]
    assert set(defined) <= set(in_tree)
    bases = {name: depth for depth, name in re.findall(r"^([│├└─ ]*)(\w+)", tree, re.MULTILINE)}
    for name in defined:
        kind = getattr(errors, name)
        parents = [base.__name__ for base in kind.__mro__[1:] if base.__name__ in in_tree]
        assert not parents or len(bases[parents[0]]) < len(bases[name]), f"{name} is misplaced"


@pytest.mark.parametrize(
    "kind",
    [
        BacktesterSettings,
        EdgeSettings,
        InfraSettings,
        MarketSettings,
        OrchestratorSettings,
        ProcessorSettings,
        ProducerSettings,
        SchemaRegistrySettings,
        SecuritySettings,
        SinkSettings,
        LakeSettings,
        SqlSettings,
        TrainerSettings,
    ],
)
def test_each_setting_is_documented(kind: type[BaseSettings]) -> None:
    texts = attribute_docs(kind)
    assert [name for name in kind.model_fields if not texts.get(name)] == []


def test_no_loop_variable_is_a_pronoun() -> None:
    pronouns = {"one", "ones", "some", "it", "they"}
    found = []
    for path in files(*PACKAGES, *OTHERS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
                continue
            names = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
            if names & pronouns:
                found.append((name_of(path), ast.unparse(node.target)))
    assert found == []


def test_names_say_what_a_value_is() -> None:
    found = []
    for path in files(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    pass
                case ast.ClassDef(name=name) | ast.arg(arg=name):
                    pass
                case ast.Name(id=name, ctx=ast.Store()):
                    pass
                case _:
                    continue
            if HOUSE_WORDS.match(name.lower()) and name not in FIELD_NAMES:
                found.append((name_of(path), name))
    assert found == []


def test_the_names_of_tests_say_what_holds() -> None:
    found = []
    for path in files("tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = node.name
                if name.startswith("test_") and HOUSE_TEST_NAMES.search(name):
                    found.append((name_of(path), name))
    assert found == []


def test_the_logger_is_called_logger() -> None:
    for path in files(*PACKAGES):
        for name in re.findall(
            r"^(\w+) = logging\.getLogger", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert name == "logger", f"{name_of(path)} names its logger {name}"


def test_each_suppression_has_its_reason() -> None:
    suppression = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore|fmt:|pragma)")
    found = []
    for path in files(*PACKAGES):
        source = path.read_text(encoding="utf-8")
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type != tokenize.COMMENT or not suppression.search(token.string):
                continue
            if token.string.startswith("# fmt:"):
                continue  # a layout that the formatter would make less readable
            if token.string.count("#") < 2:
                found.append(f"{name_of(path)}:{token.start[0]} {token.string}")
    assert found == []


def test_no_docstring_is_a_riddle() -> None:
    found = []
    for path in files(*PACKAGES):
        for name, node, text in documented(path):
            if RIDDLE.search(text):
                found.append((name_of(path), name, "begins a sentence with Who or What"))
            summary = text.partition("\n\n")[0]
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and len(summary.split()) < 3:
                found.append((name_of(path), name, summary))
            if not summary.rstrip().endswith((".", ":", "!", "?")):
                found.append((name_of(path), name, "does not end with a full stop"))
    assert found == []
