"""`tapewire sql`: answers SQL over the lake and the log."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.console import DataDir, OutFile, print_note, reasons, settings_of
from cli.moments import milliseconds_of
from cli.target import find_kafka

_FORMATS = ("table", "csv", "json", "ndjson", "arrow", "parquet")
_BINARY = ("arrow", "parquet")


def sql(
    query: Annotated[
        str | None, typer.Argument(help="A query; without one, a prompt opens.")
    ] = None,
    lake: Annotated[
        str | None,
        typer.Option(
            envvar="TAPEWIRE_LAKE",
            metavar="ADDRESS",
            help="The lake, as parquet:, delta: or iceberg: with a folder or an s3:// address. "
            "[the log alone]",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only rows that the log had then: @-1h, @-30m, @-2d, or a time such as "
            "2026-11-30T08:00:00Z.",
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only rows of this tenant; '' for those of no tenant. [all]")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"One of {', '.join(_FORMATS)}. [that of the file's name, else table]",
        ),
    ] = None,
    out: OutFile = None,
    no_log: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--no-log", help="Read the lake alone, without Kafka.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a database of DuckDB with the views, and what only the log has, and exit.",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Answer SQL over the lake and the log.

    Each class of events is a view: risk_alert, risk_measure and so on. With --lake, its rows are
    those of the lake, and from exactly where the lake ends, those of the log. Without a lake, the
    log is read alone. A query reads only. Its memory is bounded by TAPEWIRE_SQL_MEMORY_MIB. Without
    a query, a prompt reads statements that end with a semicolon.
    """
    chosen = _format(format_, out)
    as_of_ms = milliseconds_of(as_of, "--as-of")
    if no_log and lake is None:
        raise typer.BadParameter("without the log, name a lake by --lake", param_hint="--no-log")
    if save is not None and query is not None:
        raise typer.BadParameter("a file of views takes no query", param_hint="--save")
    settings = settings_of(data_dir)
    with reasons():
        kafka = None if no_log else find_kafka(settings, print_note).producer_settings()
        from cli import sql_queries  # noqa: PLC0415  # other commands do without it

        sources = sql_queries.Sources(kafka=kafka, lake=lake, as_of_ms=as_of_ms, tenant=tenant)
        if save is not None:
            sql_queries.save(sources, save, print_note)
        elif query is None:
            sql_queries.open_prompt(sources, print_note)
        else:
            sql_queries.answer(sources, query, (chosen, out), print_note)


def _format(name: str | None, out: Path | None) -> str:
    """Return the form of the answer.

    Raises:
        typer.BadParameter: there is no such form, or it does not fit the place.
    """
    chosen = name or (out.suffix.removeprefix(".") if out is not None else "table")
    known = _FORMATS if out is None else _FORMATS[1:]
    if chosen not in known:
        what = f"{name} is" if name is not None else f"the end of {out} names"
        raise typer.BadParameter(f"{what} none of {', '.join(known)}", param_hint="--format")
    if out is None and chosen in _BINARY and sys.stdout.isatty():
        raise typer.BadParameter(
            f"{chosen} is no text for a terminal; name a file by -o", param_hint="--format"
        )
    return chosen
