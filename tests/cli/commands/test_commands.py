"""The commands as a user types them: arguments, help, output and exit codes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.__main__ import commands_for
from cli.app import cli
from cli.commands import risk
from infra import demo_issuer
from infra.data_dir import locked
from infra.embedded_broker import free_port
from stream_processors.risk.estimates import METHODS
from tapewire import __version__
from tests.support.fake_registry import fake_registry
from tests.support.scripted_server import scripted

RUNNER = CliRunner()


def call(*arguments: str, **env: str) -> tuple[int, str]:
    result = RUNNER.invoke(cli, list(arguments), env={"COLUMNS": "200", **env})
    return result.exit_code, result.output + str(result.exception or "")


@pytest.mark.parametrize(
    "command",
    [
        ("up",),
        ("reset",),
        ("task",),
        ("token",),
        ("rebuild",),
        ("audit",),
        ("backup",),
        ("restore",),
        ("status",),
        ("connections",),
        ("doctor",),
        ("upgrade",),
        ("books", "put"),
        ("books", "close"),
        ("books", "show"),
        ("books", "limit"),
        ("books", "unlimit"),
        ("schemas", "register"),
        ("schemas", "check"),
        ("dead-letters", "list"),
        ("dead-letters", "show"),
        ("dead-letters", "redrive"),
        ("dead-letters", "discard"),
        ("aggregates",),
        ("export",),
        ("sql",),
        ("install",),
        ("lake", "compact"),
        ("lake", "expire"),
        ("lake", "run"),
        ("lake", "tables"),
        ("lake", "vacuum"),
        ("limits", "set"),
        ("limits", "withdraw"),
        ("limits", "show"),
        ("risk", "replay"),
        ("scenarios", "put"),
        ("scenarios", "list"),
        ("scenarios", "show"),
        ("scenarios", "delete"),
        ("topics", "list"),
        ("topics", "describe"),
        ("topics", "tail"),
        ("topics", "acls"),
        ("topics", "create"),
        ("topics", "grow"),
        ("topics", "rekey"),
        ("topics", "retention"),
        ("tenant", "find"),
        ("tenant", "erase"),
    ],
)
def test_each_command_has_a_help_text(command: tuple[str, ...]) -> None:
    code, text = call(*command, "--help")
    assert code == 0
    assert "Usage:" in text


def commands(command: Any, name: str = "tapewire") -> Iterator[tuple[str, Any]]:
    """Yield each command below one, typer's copy of click's, with its name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from commands(inner, f"{name} {part}")


def test_each_command_prints_json_if_asked() -> None:
    found = dict(commands(typer.main.get_command(cli)))
    assert len(found) > 30
    without = [
        name
        for name, command in found.items()
        if not any({"--json", "--format"} & set(parameter.opts) for parameter in command.params)
    ]
    assert not without, f"give these an option of type cli.console.AsJson: {without}"


def document(*arguments: str, **env: str) -> Any:
    result = RUNNER.invoke(cli, [*arguments, "--json"], env=env)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_an_edge_answers_is_the_document() -> None:
    row = {"portfolio_id": "p", "limits": []}
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /health/live": [(200, {})],
        "GET /api/v1/limits/p": [(200, row)],
        "DELETE /api/v1/limits/p": [(200, row)],
        "GET /api/v1/scenarios": [(200, [])],
        "DELETE /api/v1/scenarios/s": [(200, {"name": "s", "status": "withdrawn"})],
        "GET /api/v1/books/firm": [(200, [])],
        "DELETE /api/v1/books/firm/a": [(200, {"status": "closed"})],
        "DELETE /api/v1/books/firm/a/limits": [(200, {"limits": []})],
    }
    with scripted(responses) as edge:
        env = {"TAPEWIRE_URL": edge.url}
        assert document("limits", "show", "p", **env) == [row]
        assert document("limits", "withdraw", "p", **env) == row
        assert document("scenarios", "list", **env) == []
        assert document("scenarios", "delete", "s", **env)["status"] == "withdrawn"
        assert document("books", "show", "firm", **env) == []
        assert document("books", "close", "firm/a", **env) == {"status": "closed"}
        assert document("books", "unlimit", "firm/a", **env) == {"limits": []}


def test_commands_of_this_machine_print_documents(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with locked(folder):
        pass
    demo_issuer.jwks_path(folder)
    made = document("token", "--sub", "alice", "--ttl", "60", "--data-dir", str(folder))
    assert made.pop("token").count(".") == 2
    assert made == {"sub": "alice", "tenant": None, "scope": None, "expires_in_s": 60}
    gone = document("reset", "--yes", "--data-dir", str(folder))
    assert gone.pop("bytes") > 0
    assert gone == {"data_dir": str(folder), "deleted": True, "exists": False}
    again = document("reset", "--yes", "--data-dir", str(folder))
    assert (again["deleted"], again["bytes"]) == (False, 0)
    (grant, *_) = document("topics", "acls", "trainer", TAPEWIRE_TOPIC_PREFIX="desk.")
    assert grant.keys() == {"part", "principal", "resource", "name", "pattern", "operation"}
    assert (grant["part"], grant["principal"]) == ("trainer", "User:trainer")
    assert grant["name"].startswith("desk.")


def test_a_shell_completes_commands() -> None:
    env = {
        "_TAPEWIRE_COMPLETE": "complete_bash",
        "COMP_WORDS": "tapewire dead-letters re",
        "COMP_CWORD": "2",
    }
    result = RUNNER.invoke(cli, [], env=env, prog_name="tapewire")
    assert result.output.split() == ["redrive"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("up", "--speed", "0"), "0.0 is invalid; it must be more than 0"),
        (("up", "--port", "70000"), "--port"),
        (("task",), "give one of ID, --new and --compare ID"),
        (("task", "T", "--new"), "give one of ID, --new and --compare ID"),
        (("audit", "--count", "0"), "--count"),
        (("rebuild", "a b"), "'a b' is invalid; use letters, digits, - and _"),
        (("limits", "set", "p", "much"), "limit"),
        (("scenarios", "put", "s"), "give either --from, or --shock"),
        (("scenarios", "put", "s", "--shock", "SPX"), "'SPX' is no shock"),
        (("scenarios", "put", "s", "--shock", "A=1", "--to", "2008-10-10"), "--to goes with"),
        (("scenarios", "put", "s", "--shock", "A=1", "--calendar", "UTC"), "--calendar goes with"),
        (
            ("scenarios", "put", "s", "--from", "2008-10-10", "--calendar", "Mars"),
            "--calendar: the",
        ),
        (("scenarios", "put", "s", "--from", "2008-10-10", "--factor", "A"), "--factor goes"),
        (("dead-letters", "list", "--state", "x"), "x is none of open, redriven, discarded and"),
        (("dead-letters", "list", "--reason", "x"), "x is none of undecodable, too_large"),
        (("dead-letters", "list", "--from", "noon"), "'noon' is no time; write @-1h"),
        (("dead-letters", "redrive"), "name letters, or choose them by --topic, --reason or"),
        (("dead-letters", "discard", "t/0/1"), "--because"),
        (("dead-letters", "discard", "t/0/1", "--because", " "), "give the reason"),
        (("doctor", "--part", "x"), "x is none of edge, processor, trainer"),
        (("upgrade",), "give --check; the software itself is upgraded by"),
        (("topics", "tail", "risk.alerts", "--from", "noon"), "'noon' is no time; write @-1h"),
        (("topics", "tail", "risk.alerts", "--count", "0"), "--count"),
        (("topics", "grow", "0"), "'COUNT': Input should be greater than or equal to 1"),
        (("topics", "grow", "12", "--settle", "-1"), "--settle"),
        (("risk", "replay", "--portfolio", "p", "--from", "x", "--to", "y"), "'x' does not match"),
        (
            ("risk", "replay", "--portfolio", "p", "--from", "2001-01-02", "--to", "2001-01-01"),
            "2001-01-02 is after --to",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], text: str) -> None:
    code, output = call(*arguments)
    assert code == 2
    assert text in output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--confidence", "1.5"), "1.5"),
        (("--method", "magic"), "magic"),
    ],
)
def test_a_replay_names_a_parameter_that_no_measure_can_have(
    arguments: tuple[str, ...], text: str
) -> None:
    days = ("--from", "2000-01-01", "--to", "2000-12-31")
    code, output = call(
        *("risk", "replay", "--portfolio", "p", *days, *arguments),
        KAFKA_BOOTSTRAP_SERVERS=f"localhost:{free_port()}",
    )
    assert code == 1
    assert output.startswith("tapewire: ")
    assert text in output


def test_changes_are_listed_through_an_edge() -> None:
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /health/live": [(200, {})],
        "GET /api/v1/audit?limit=7": [(200, [])],
    }
    with scripted(responses) as edge:
        output = f"edge: {edge.url}\nnothing was changed\n"
        assert call("audit", "--count", "7", "--url", edge.url) == (0, output)
        code, output = call("audit", "--count", "7", "--json", "--url", edge.url)
        assert (code, output) == (0, f"edge: {edge.url}\n[]\n")


def test_schemas_are_registered_checked_and_listed() -> None:
    with fake_registry() as known:
        env = {"TAPEWIRE_SCHEMA_REGISTRY_URL": known.url, "TAPEWIRE_TOPIC_PREFIX": "desk."}
        code, output = call("schemas", "check", **env)
        assert code == 1
        assert "desk.risk.alerts-value does not exist" in output
        code, output = call("schemas", "register", **env)
        assert (code, "desk.risk.alerts-value: registered version 1" in output) == (0, True)
        code, output = call("schemas", "check", **env)
        assert (code, "the registry has all schemas" in output) == (0, True)
        rows = document("schemas", "list", **env)
        assert {"subject", "record", "compatibility", "versions"} == rows[0].keys()
        # A command that only reads needs no registered schema.
        known.subjects.clear()
        assert call("schemas", "list", TAPEWIRE_WIRE="confluent", **env)[0] == 0
    code, output = call("schemas", "list")
    assert (code, "set TAPEWIRE_SCHEMA_REGISTRY_URL" in output) == (1, True)


def test_connections_are_listed_and_closed_through_an_edge() -> None:
    row = {
        "id": "edge-1.1",
        "client_id": "desk",
        "channels": ["alerts"],
        "address": "192.0.2.7",
        "tenant": None,
        "since": "now",
        "behind": 0,
        "paused": False,
    }
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /health/live": [(200, {})],
        "GET /api/v1/sse/status": [(200, {"nodes": [{"node_id": "edge-1", "address": ""}]})],
        "GET /api/v1/connections?limit=100": [(200, {"node_id": "edge-1", "connections": [row]})],
        "DELETE /api/v1/connections/edge-1.1": [
            (200, {"closed": row | {"client_id": "desk\x1b[2J"}})
        ],
    }
    with scripted(responses) as edge:
        code, output = call("connections", "--url", edge.url)
        assert (code, "desk from 192.0.2.7" in output) == (0, True)
        code, output = call("connections", "--close", "edge-1.1", "--url", edge.url)
        assert (code, output.splitlines()[-1]) == (0, "closed edge-1.1 of desk\\x1b[2J")


def test_limits_are_set_withdrawn_and_shown_through_an_edge() -> None:
    row = {
        "portfolio_id": "p",
        "limits": [{"metric": "es_99", "limit": 0.1, "warn_ratio": None, "critical_ratio": 1.5}],
        "set_at": "now",
        "set_by": None,
    }
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /health/live": [(200, {})],
        "PUT /api/v1/limits/p": [(200, row)],
        "DELETE /api/v1/limits/p": [(200, row | {"limits": []})],
        "GET /api/v1/limits/p": [(200, row)],
    }
    with scripted(responses) as edge:
        options = (
            "--metric",
            "ES_99",
            "--critical-ratio",
            "1.5",
            "--raise-after",
            "2",
            "--comment",
            "why",
        )
        code, output = call("limits", "set", "p", "0.1", *options, "--url", edge.url)
        assert (code, output.split()[:5]) == (0, ["edge:", edge.url, "p", "es_99", "0.1"])
        assert call("limits", "show", "p", TAPEWIRE_URL=edge.url) == (0, output)
        assert call("limits", "withdraw", "p", "--url", edge.url, "--token", "t")[0] == 0
    put, _, delete = (request for request in edge.received if request.path != "/health/live")
    limit = {"metric": "es_99", "limit": 0.1, "warn_ratio": None, "critical_ratio": 1.5}
    assert put.body == {
        "limits": [limit | {"raise_after": 2}],
        "stale_after_s": None,
        "comment": "why",
    }
    assert delete.headers["authorization"] == "Bearer t"


def test_a_missing_edge_is_an_error_with_the_address() -> None:
    url = f"http://localhost:{free_port()}"
    for arguments in (("limits", "show"), ("limits", "withdraw", "p"), ("task", "--new")):
        code, output = call(*arguments, "--url", url)
        assert code == 1
        assert "no edge answers" in output


def test_a_command_without_a_system_says_how_to_name_one(tmp_path: Path) -> None:
    for arguments, named in (
        (("limits", "show"), "--url"),
        (("task", "--new"), "TAPEWIRE_URL"),
        (("rebuild", "v2", "--yes"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("topics", "grow", "12"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("topics", "rekey"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("topics", "retention"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("topics", "retention", "risk.alerts", "1d"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("tenant", "find", "acme"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("tenant", "erase", "acme", "--dry-run"), "KAFKA_BOOTSTRAP_SERVERS"),
        (("token", "--sub", "alice"), "--data-dir"),
    ):
        code, output = call(*arguments, "--data-dir", str(tmp_path / "none"))
        assert code == 1, arguments
        assert str(tmp_path / "none") in output
        assert named in output
    assert not (tmp_path / "none").exists()


def test_a_rebuild_without_a_terminal_needs_an_answer_in_advance() -> None:
    code, output = call("rebuild", "v2")
    assert code == 1
    assert "give --yes or --no-switch" in output


def test_the_command_starts_without_the_scientific_stack() -> None:
    program = "import cli.app, sys; print({'numpy', 'scipy', 'sklearn'} & set(sys.modules))"
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
    assert risk.METHODS == METHODS


def test_up_starts_without_what_only_other_commands_need() -> None:
    program = """
import sys
from cli.__main__ import commands_for
commands_for(["up", "--no-demo"])
print({"cli.app", "httpx", "pygments", "rich.console"} & set(sys.modules))
"""
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--no-such-option"], ["--speed", "0"], ["x"]])
def test_up_says_the_same_as_among_all_commands(arguments: list[str]) -> None:
    words = ["up", *arguments]
    alone, among = (
        RUNNER.invoke(commands, words, prog_name="tapewire", env={"COLUMNS": "200"})
        for commands in (commands_for(words), commands_for([]))
    )
    assert (alone.exit_code, alone.output) == (among.exit_code, among.output)


def test_the_version_is_printed() -> None:
    assert call("--version") == (0, f"tapewire {__version__}\n")


def test_reset_names_the_folder_asks_and_deletes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert call("reset", "--data-dir", str(folder)) == (0, f"there is no {folder}\n")
    with locked(folder):
        pass
    code, output = call("reset", "--data-dir", str(folder))
    assert code == 1
    assert f"there is no terminal to ask: Delete {folder}" in output
    assert folder.exists()
    code, output = call("reset", "--data-dir", str(folder), "--yes")
    assert (code, output) == (0, f"deleted the data in {folder}\n")
    assert not folder.exists()


def test_reset_leaves_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    code, output = call("reset", "--data-dir", str(tmp_path), "--yes")
    assert code == 1
    assert "nothing was removed" in output
    assert (tmp_path / "kafka").exists()


def test_a_token_is_three_parts_of_base64_for_a_named_system(tmp_path: Path) -> None:
    demo_issuer.jwks_path(tmp_path)
    result = RUNNER.invoke(cli, ["token", "--sub", "alice", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert len(result.stdout.strip().split(".")) == 3
    note = f"a token for the system on {tmp_path}, which `tapewire up` does not run now"
    assert note in result.stderr


def test_the_acls_of_a_part_are_printed_with_the_prefix_of_its_topics() -> None:
    env = {"TAPEWIRE_TOPIC_PREFIX": "desk.", "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}
    result = RUNNER.invoke(cli, ["topics", "acls", "trainer", "--principal", "User:t"], env=env)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].startswith("# trainer: ")
    start = "kafka-acls.sh --bootstrap-server kafka:9093 --add --allow-principal 'User:t'"
    assert all(line.startswith(start) for line in lines[1:])
    assert "--group desk.tapewire-training.commands" in result.output
    everything = RUNNER.invoke(cli, ["topics", "acls"])
    assert everything.output.count("\n# ") > 8


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["nobody"], "nobody is none of edge, processor"), (["--principal", "User:x"], "name one")],
)
def test_acls_of_an_unknown_part_are_refused(arguments: list[str], text: str) -> None:
    result = RUNNER.invoke(cli, ["topics", "acls", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert text in result.output


def test_an_installation_says_what_it_has_written_and_what_starts_it(tmp_path: Path) -> None:
    code, text = call(
        *("install", "--systemd", "--root", str(tmp_path), "--edges", "2", "--worker", "demo")
    )
    assert code == 0, text
    assert f"wrote {tmp_path}/etc/systemd/system/tapewire-demo.service" in text
    assert "systemctl enable --now tapewire.target" in text
    target = (tmp_path / "etc/systemd/system/tapewire.target").read_text(encoding="utf-8")
    assert "Wants=tapewire-edge@8001.service\n" in target
    assert not (tmp_path / "etc/systemd/system/tapewire-trainer.service").exists()


def test_the_files_for_monitoring_are_written_and_changed_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = tmp_path / "monitoring", tmp_path / "data"
    monkeypatch.setenv("TAPEWIRE_DATA_DIR", str(data))
    command = ("install", "--monitoring", str(folder))
    code, text = call(*command)
    assert code == 0, text
    config = (folder / "prometheus.embedded.yaml").read_text(encoding="utf-8")
    assert f'files: ["{data}/prometheus.json"]' in config
    assert "infra/monitoring" not in config
    (folder / "alertmanager.yaml").write_text("route: {}\n", encoding="utf-8")
    code, text = call(*command)
    assert f"kept {folder}/alertmanager.yaml; wrote {folder}/alertmanager.yaml.new" in text
    assert (folder / "alertmanager.yaml").read_text(encoding="utf-8") == "route: {}\n"
    assert {path.name for path in folder.rglob("*.new")} == {"alertmanager.yaml.new"}
    assert "systemctl" not in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "say what to write, as --systemd or --monitoring DIR"),
        (("--systemd", "--worker", "edge"), "edge is none of trainer, backtester"),
        (("--systemd", "--port", "65535", "--edges", "2"), "the last one is 65535"),
    ],
)
def test_an_installation_that_cannot_work_is_refused(
    arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    code, text = call("install", "--root", str(tmp_path), *arguments)
    assert code == 2
    assert reason in " ".join(text.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--from", "yesterday"), "'yesterday' is no time; write @-1h"),
        (("--from", "@-1h", "--to", "@-2h"), "the interval from @-1h to @-2h is empty"),
        (("--format", "xlsx"), "xlsx is none of parquet, csv, arrow, ndjson, json"),
        (("-o", "alerts.xlsx"), "the end of alerts.xlsx names none of parquet, csv"),
    ],
)
def test_an_export_says_what_is_wrong_with_its_arguments(
    arguments: tuple[str, ...], reason: str
) -> None:
    code, output = call("export", "alerts", *arguments)
    assert code == 2
    assert reason in " ".join(output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("SELECT 1", "--as-of", "then"), "'then' is no time"),
        (("SELECT 1", "--no-log"), "without the log, name a lake by --lake"),
        (("SELECT 1", "--save", "f"), "a file of views takes no query"),
        (("SELECT 1", "--format", "xml"), "xml is none of table, csv, json"),
        (("SELECT 1", "-o", "f.table"), "the end of f.table names none of csv, json"),
    ],
)
def test_sql_says_what_is_wrong_with_its_arguments(arguments: tuple[str, ...], reason: str) -> None:
    code, output = call("sql", *arguments)
    assert code == 2
    assert reason in " ".join(output.replace("│", " ").split())


def test_sql_names_a_lake_that_it_does_not_understand() -> None:
    code, output = call("sql", "SELECT 1", "--no-log", "--lake", "csv:/tmp")
    assert code == 1
    assert "begins with one of delta:, iceberg:" in output


def test_aggregates_name_a_lake_that_is_not_understood() -> None:
    code, output = call("aggregates", "--lake", "delta:ftp://x/y")
    assert code == 1
    assert "names neither a folder nor a bucket" in output
