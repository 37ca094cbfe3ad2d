"""The prompt answers statements and commands, and survives what is wrong."""

import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from analytics.errors import QueryFailed
from cli import sql_shell
from cli.sql_shell import Completer, Shell, history_path, keep_history


class Tables:
    """Two tables, and what was asked of them."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.prepared: list[str] = []
        self.refreshed = 0

    def tables(self) -> Sequence[str]:
        return ["risk_alert", "risk_measure"]

    def columns(self, table: str) -> Sequence[tuple[str, str]]:
        if table not in self.tables():
            raise QueryFailed(f"there is no {table}")
        return [("alert_id", "VARCHAR"), ("_offset", "BIGINT")]

    def refresh(self) -> None:
        self.refreshed += 1

    async def prepare(self, sql: str) -> None:
        self.prepared.append(sql)
        if "wrong" in sql:
            raise QueryFailed("wrong is wrong")
        if "gap" in sql:
            self.notes.append("rows are missing")


def shown(*typed: str | type[BaseException]) -> tuple[Tables, list[str]]:
    """Return the tables and what a shell has written after some lines."""
    tables, written = Tables(), list[str]()
    lines: Iterator[str | type[BaseException]] = iter(typed)

    def read_line(_: str) -> str:
        line = next(lines, EOFError)
        if not isinstance(line, str):
            raise line
        return line

    def show(sql: str) -> None:
        if "slow" in sql:
            raise KeyboardInterrupt
        written.append(f"rows of {sql}")

    Shell(tables, show, read_line, written.append).run()
    return tables, written


def test_a_statement_ends_with_a_semicolon_on_whichever_line() -> None:
    tables, written = shown("SELECT 1", "", "  FROM x;", "SELECT 2;", ";", "SELECT 3")
    assert tables.prepared == ["SELECT 1\n\n  FROM x", "SELECT 2"]
    assert written == [f"rows of {sql}" for sql in tables.prepared]


def test_an_error_and_an_interrupt_end_their_statement_alone() -> None:
    _, written = shown("wrong;", "SELECT", KeyboardInterrupt, "SELECT slow;", "gap;", "SELECT 4;")
    assert written == [
        "error: wrong is wrong",
        "stopped",
        "rows of gap",
        "note: rows are missing",
        "rows of SELECT 4",
    ]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (".tables", "risk_alert"),
        (".columns risk_alert", "alert_id                      VARCHAR"),
        (".columns", "name one table: .columns risk_alert"),
        (".columns nothing", "error: there is no nothing"),
        (".help", sql_shell.HELP),
        (".nothing", f"there is no command .nothing; there are\n{sql_shell.HELP}"),
    ],
)
def test_commands_answer(command: str, line: str) -> None:
    assert line in shown(command)[1]


def test_a_refresh_is_for_the_next_statement_and_quit_leaves() -> None:
    tables, written = shown(".refresh", ".quit", "SELECT 1;")
    assert (tables.refreshed, written) == (1, [])


@pytest.mark.parametrize(
    ("text", "completions"),
    [
        ("risk_m", ["risk_measure"]),
        ("risk_alert._", ["risk_alert._offset"]),
        ("ale", ["alert_id"]),
        ("sel", ["SELECT"]),
        (".t", [".tables"]),
        ("nothing.x", []),
    ],
)
def test_names_are_completed(text: str, completions: list[str]) -> None:
    completer = Completer(Tables())
    assert completer.completions(text) == completions
    found = [completer(text, number) for number in range(len(completions) + 1)]
    assert found == [*completions, None]


def test_a_history_is_for_its_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = history_path()
    assert path == tmp_path / "tapewire" / "sql_history"

    class Readline(ModuleType):
        write_history_file: Callable[[Path], None] = staticmethod(
            lambda path: path.open("a").close()
        )

    keep_history(Readline("readline"), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keep_history(None, tmp_path / "other")
    assert not (tmp_path / "other").exists()
