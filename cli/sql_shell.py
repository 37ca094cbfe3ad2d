"""The prompt of `tapewire sql`: statements until `;`, and commands that begin with a dot."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from cli.errors import CommandError
from cli.table_libraries import tables_or_reason

_PROMPT, _MORE = "tapewire> ", "     ...> "
HELP = """\
.tables          the tables
.columns TABLE   the columns of a table
.refresh         read the log and the lake anew at the next statement
.quit            leave
A statement ends with a semicolon. Ctrl-C drops what was typed, or stops a query."""
_DOT_COMMANDS = (".tables", ".columns", ".refresh", ".help", ".quit")
_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "JOIN", "USING", "DESCRIBE",
    "SUMMARIZE", "count(*)",
)  # fmt: skip
_HISTORY_LINES = 1_000


class Queries(Protocol):
    """Answers queries, as `analytics.sql.session.Session` does."""

    @property
    def notes(self) -> list[str]:
        """Sentences about rows that are missing."""
        ...

    def tables(self) -> Sequence[str]:
        """Return the names of the tables."""
        ...

    def columns(self, table: str) -> Sequence[tuple[str, str]]:
        """Return the names and types of the columns of a table."""
        ...

    def refresh(self) -> None:
        """Read the log and the lake anew at the next query."""
        ...

    def prepare(self, sql: str) -> Coroutine[Any, Any, None]:
        """Read the tables that a query names."""
        ...


class Shell:
    """Reads statements, and shows their rows."""

    def __init__(
        self,
        session: Queries,
        show: Callable[[str], None],
        read_line: Callable[[str], str],
        write: Callable[[str], None],
    ) -> None:
        """Make a shell.

        Args:
            session: answers the queries.
            show: shows the rows of a query whose tables are read.
            read_line: reads a line after a prompt; raises `EOFError` at the end of the input.
            write: writes a line.
        """
        self._session = session
        self._show = show
        self._read_line = read_line
        self._write = write

    def run(self) -> None:
        """Answer statements until the input ends."""
        for text in self._statements():
            try:
                with tables_or_reason():
                    if text.startswith("."):
                        self._command(*text.split())
                    else:
                        asyncio.run(self._session.prepare(text))
                        self._show(text)
                        self._write_notes()
            except CommandError as error:
                self._write(f"error: {error}")
            except KeyboardInterrupt:
                self._write("stopped")

    def _statements(self) -> Iterator[str]:
        """Yield statements without their semicolons, and commands with their dots."""
        held: list[str] = []
        while True:
            try:
                line = self._read_line(_MORE if held else _PROMPT).rstrip()
            except EOFError:
                return
            except KeyboardInterrupt:
                held = []
                continue
            if not held and line.strip().startswith("."):
                if line.split()[0] in (".quit", ".exit"):
                    return
                yield line.strip()
            elif line.endswith(";"):
                text = "\n".join([*held, line.rstrip("; ")]).strip()
                held = []
                if text:
                    yield text
            elif line or held:
                held.append(line)

    def _command(self, name: str, *arguments: str) -> None:
        match name:
            case ".tables":
                for table in self._session.tables():
                    self._write(table)
            case ".columns" if len(arguments) == 1:
                for column, kind in self._session.columns(arguments[0]):
                    self._write(f"{column:<28}  {kind}")
            case ".columns":
                self._write("name one table: .columns risk_alert")
            case ".refresh":
                self._session.refresh()
            case ".help":
                self._write(HELP)
            case _:
                self._write(f"there is no command {name}; there are\n{HELP}")

    def _write_notes(self) -> None:
        for note in self._session.notes:
            self._write(f"note: {note}")
        self._session.notes.clear()


class Completer:
    """Completes the names of tables and columns, keywords and commands."""

    def __init__(self, session: Queries) -> None:
        self._session = session
        self._found: Sequence[str] = ()

    def __call__(self, text: str, number: int) -> str | None:
        """Return a completion of a text, by its number; None after the last one."""
        if number == 0:
            self._found = self.completions(text)
        return self._found[number] if number < len(self._found) else None

    def completions(self, text: str) -> Sequence[str]:
        """Return all completions of a text; after `TABLE.`, those of the table's columns."""
        if text.startswith("."):
            return [name for name in _DOT_COMMANDS if name.startswith(text)]
        tables = self._session.tables()
        table, dot, begin = text.rpartition(".")
        if dot and table in tables:
            names = [f"{table}.{name}" for name, _ in self._session.columns(table)]
            return [name for name in names if name.startswith(f"{table}.{begin}")]
        columns = {name for known in tables for name, _ in self._session.columns(known)}
        names = [*tables, *sorted(columns - set(tables))]
        words = [word for word in _KEYWORDS if word.lower().startswith(text.lower())]
        return [*(name for name in names if name.startswith(text)), *words]


def history_path() -> Path:
    """Return the file of the statements that were typed."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "tapewire" / "sql_history"


def use_readline(session: Queries, path: Path) -> ModuleType | None:
    """Let the prompt complete names and keep a history; return the module; None without it."""
    try:
        import readline  # noqa: PLC0415  # some Pythons lack it
    except ModuleNotFoundError:
        return None
    readline.set_completer(Completer(session))
    readline.set_completer_delims(" \t\n,()=<>+-*/;")
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(_HISTORY_LINES)
    with suppress(OSError):
        readline.read_history_file(path)
    return readline


def keep_history(readline: ModuleType | None, path: Path) -> None:
    """Write the history, for its user alone; without a folder for it, it is forgotten."""
    if readline is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.write_history_file(path)
