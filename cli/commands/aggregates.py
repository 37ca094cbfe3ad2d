"""`tapewire aggregates`: keeps summaries of events as tables."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from cli.aggregates import keep
from cli.console import AsJson, print_line, print_message, reasons


def aggregates(
    lake: Annotated[
        str,
        typer.Option(
            envvar="TAPEWIRE_LAKE",
            metavar="ADDRESS",
            help="The lake, as parquet:, delta: or iceberg: with a folder or an s3:// address.",
        ),
    ],
    every: Annotated[
        float | None,
        typer.Option(
            min=1, max=86_400, metavar="SECONDS", help="Go on, with a step so often. [one step]"
        ),
    ] = None,
    rebuild: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option("--rebuild", help="Compute all rows again first, as after an erasure."),
    ] = False,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Bring the aggregates of a lake up to date with its tables.

    Aggregates are Parquet files in the folder `aggregates` of the lake: daily_risk,
    alert_statistics and job_statistics. A step computes the rows of those days, alerts and jobs
    again that have new events, and replaces each file at once. A step that dies changes nothing.
    """
    with reasons():
        try:
            keep(lake, _moments(every), rebuild=rebuild, say=print_message if json else print_line)
        except KeyboardInterrupt:
            raise typer.Exit from None


def _moments(every_s: float | None) -> Iterator[None]:
    yield
    while every_s is not None:
        time.sleep(every_s)
        yield
