"""`tapewire sql`: answers a query, opens a prompt, or saves the views as a file."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cli.sql_answers import table_lines
from cli.sql_shell import Shell, history_path, keep_history, use_readline
from cli.table_libraries import tables_or_reason
from kafka_io.settings import ProducerSettings

if TYPE_CHECKING:
    from analytics.sql.session import Session

TABLE = "table"
ROWS_MAX = 1_000
"""The most rows of a table on the terminal."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The log and the lake that queries are answered from."""

    kafka: ProducerSettings | None
    """The Kafka whose log is read; None for the lake alone."""
    lake: str | None = None
    """The lake's address."""
    as_of_ms: int | None = None
    tenant: str | None = None


def answer(sources: Sources, sql: str, file: tuple[str, Path | None], say: Say) -> None:
    """Answer a query.

    Args:
        sources: what it is answered from.
        sql: the query.
        file: the form of the answer, and the file for it; None for the standard output.
        say: prints a line beside the output.

    Raises:
        CommandError: the query, the lake, the log or the file failed.
    """
    with tables_or_reason(), _session(sources) as session:
        asyncio.run(session.prepare(sql))
        _write(session, sql, file, say)
        for note in session.notes:
            say(f"note: {note}")


def open_prompt(sources: Sources, say: Say) -> None:
    """Answer the statements that a user types, or that come from a pipe.

    Raises:
        CommandError: the lake or the log cannot be opened.
    """
    with tables_or_reason(), _session(sources) as session:
        is_terminal = sys.stdin.isatty()
        path = history_path()
        readline = use_readline(session, path) if is_terminal else None
        if is_terminal:
            say("Statements end with a semicolon; .help shows the commands.")

        def show(sql: str) -> None:
            _write(session, sql, (TABLE, None), say)

        try:
            Shell(session, show, input if is_terminal else _read_line, say).run()
        finally:
            keep_history(readline, path)


def save(sources: Sources, path: Path, say: Say) -> None:
    """Write a database with the views, and what only the log has.

    Raises:
        CommandError: the lake, the log or the file failed.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with tables_or_reason():
            with _session(sources, unfinished) as session:
                asyncio.run(session.load())
                for note in session.notes:
                    say(f"note: {note}")
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    say(f"views in {path}")


def _session(sources: Sources, path: Path | None = None) -> "Session":
    from analytics.log_rows import KafkaLog  # noqa: PLC0415  # it needs an extra
    from analytics.sql.lakes import open_lake  # noqa: PLC0415  # as above
    from analytics.sql.session import Session  # noqa: PLC0415  # as above

    return Session(
        None if sources.kafka is None else KafkaLog(sources.kafka),
        None if sources.lake is None else open_lake(sources.lake),
        as_of_ms=sources.as_of_ms,
        tenant=sources.tenant,
        path=path,
    )


def _write(session: "Session", sql: str, file: tuple[str, Path | None], say: Say) -> None:
    from analytics.table_files import Format, open_writer, plain_rows  # noqa: PLC0415  # as above

    form, path = file
    found = session.execute(sql)
    if form != TABLE:
        with open_writer(path, Format(form), found.schema) as writer:
            for batch in found.batches():
                writer.write(batch)
        return
    rows = (row for batch in found.batches() for row in plain_rows(batch))
    shown = list(islice(rows, ROWS_MAX))
    for line in table_lines(found.schema.names, shown):
        print(line)
    if next(rows, None) is not None:
        say(f"the first {ROWS_MAX} rows; add LIMIT, or write a file by --format and -o")


def _read_line(_: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
