"""`tapewire lake`: lists the tables of a lake, and keeps their files few and young."""

from datetime import timedelta
from typing import Annotated

import typer

from cli.console import AsJson, print_answer, reasons
from cli.lake_upkeep import compact, expire, list_tables, vacuum
from cli.moments import duration_of

_COMMIT_MAX = timedelta(hours=1)
"""A file that is younger may belong to a commit that is still to come."""

lake_cli = typer.Typer(no_args_is_help=True, help="Keep tables of all events in files.")

Lake = Annotated[
    str,
    typer.Option(
        "--lake",
        envvar="TAPEWIRE_LAKE",
        metavar="ADDRESS",
        help="Such as delta:/srv/lake, or iceberg:s3://bucket/prefix.",
    ),
]
TableNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TABLE]...", help="Tables, such as risk_alert.  [default: all]"),
]


@lake_cli.callback()
def lake_group() -> None:
    """Keep tables of all events in files."""


@lake_cli.command("tables")
def tables_command(
    lake: Lake,
    tables: TableNames = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """List the tables of a lake, and up to which offset each has the log."""
    with reasons():
        print_answer(list_tables(lake, tables or ()), json=json)


@lake_cli.command("compact")
def compact_command(
    lake: Lake,
    tables: TableNames = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Write the many small files of each day as few. Sinks may go on meanwhile."""
    with reasons():
        print_answer(compact(lake, tables or ()), json=json)


@lake_cli.command("expire")
def expire_command(
    lake: Lake,
    tables: TableNames = None,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="The age of states, as 7d or 12h.")
    ] = "7d",
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Forget old states of tables, to which other programs could go back."""
    age = duration_of(older_than, "--older-than")
    with reasons():
        print_answer(expire(lake, tables or (), age), json=json)


@lake_cli.command("vacuum")
def vacuum_command(
    lake: Lake,
    tables: TableNames = None,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="The age of files, as 7d or 12h; at least 1h.")
    ] = "7d",
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Delete old files that no table needs: those of refused commits and of forgotten states.

    Delta also deletes the files that compactions have replaced longer ago.
    """
    age = duration_of(older_than, "--older-than")
    if age < _COMMIT_MAX:
        raise typer.BadParameter(
            f"{older_than} is shorter than a commit may take; write 1h or more",
            param_hint="--older-than",
        )
    with reasons():
        print_answer(vacuum(lake, tables or (), age), json=json)
