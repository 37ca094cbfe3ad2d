"""`tapewire export`: writes the events of an interval as a file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.console import DataDir, OutFile, print_note, reasons, run, settings_of
from cli.moments import milliseconds_of
from cli.target import find_kafka

_FORMATS = ("parquet", "csv", "arrow", "ndjson", "json")
_BINARY = ("parquet", "arrow")

_TIME = "@-1h, @-30m, @-2d, or a time such as 2026-11-30T08:00:00Z"


def export(
    table: Annotated[
        str,
        typer.Argument(
            metavar="EVENTS",
            help="A table, as risk_alert; a topic, as risk.alerts; or a channel, as alerts.",
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help=f"The first time: {_TIME}. [the log's first]"),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="The first time that is left out. [now]"),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"One of {', '.join(_FORMATS)}. [that of the file's name, else ndjson]",
        ),
    ] = None,
    out: OutFile = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="Only events of this tenant; '' for those of no tenant. [all]"),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Write the events that the log got in an interval as a file, without a lake.

    The interval is by the log's clock. The events are in the order of their partitions and
    offsets, so the same interval gives the same file. A file appears under its name when it is
    whole. Nested columns are JSON in CSV.
    """
    chosen = _format(format_, out)
    since_ms, until_ms = milliseconds_of(since, "--from"), milliseconds_of(until, "--to")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise typer.BadParameter(
            f"the interval from {since} to {until} is empty; --to must be later than --from",
            param_hint="--to",
        )
    settings = settings_of(data_dir)
    with reasons():
        kafka = find_kafka(settings, print_note).producer_settings()
        from cli.event_export import write_events  # noqa: PLC0415  # it needs an extra

    run(write_events(table, kafka, (since_ms, until_ms), (chosen, out), tenant, print_note))


def _format(name: str | None, out: Path | None) -> str:
    """Return the form of the file.

    Raises:
        typer.BadParameter: there is no such form, or it cannot be shown on a terminal.
    """
    chosen = name or (out.suffix.removeprefix(".") if out is not None else "ndjson")
    if chosen not in _FORMATS:
        what = f"{name} is" if name is not None else f"the end of {out} names"
        raise typer.BadParameter(f"{what} none of {', '.join(_FORMATS)}", param_hint="--format")
    if out is None and chosen in _BINARY and sys.stdout.isatty():
        raise typer.BadParameter(
            f"{chosen} is no text for a terminal; name a file by -o", param_hint="--format"
        )
    return chosen
