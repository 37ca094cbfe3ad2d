"""`tapewire lake run`: writes all events of the log into tables."""

from typing import Annotated

import typer

from cli.console import AsJson, DataDir, print_answer, print_note, reasons, settings_of
from cli.lake_run import run_lake
from cli.target import find_kafka


def lake_run(
    to: Annotated[
        str,
        typer.Option(
            envvar="TAPEWIRE_LAKE",
            metavar="ADDRESS",
            help="The lake, as parquet:, delta: or iceberg: with a folder, or the last two with an "
            "s3:// address.",
        ),
    ],
    tables: Annotated[
        str, typer.Option(metavar="NAMES", help="Tables, with commas between.  [default: all]")
    ] = "",
    once: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--once", help="End when all is written that the log has now.")
    ] = False,
    aggregates: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--aggregates",
            help="Keep the aggregates up to date as well, as `tapewire aggregates` does.",
        ),
    ] = False,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Write all events of the log into tables, each once, however often this is killed.

    A table of each class of events has its columns, and where the log has each record. Run it again
    with the same address, and it goes on where the tables end. It looks at the log every
    TAPEWIRE_LAKE_INTERVAL_S seconds, and stops after the step that it writes at SIGTERM or Ctrl-C.
    Two of them may write one lake: the slower one goes on from what the other has written.
    """
    settings = settings_of(data_dir)
    names = [name.strip() for name in tables.split(",") if name.strip()]
    with reasons():
        kafka = find_kafka(settings, print_note).producer_settings()
        print_answer(run_lake(to, names, kafka, once=once, aggregates=aggregates), json=json)
