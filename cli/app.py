"""The `tapewire` command line: its commands, and the text of `tapewire --help`."""

from typing import Annotated

import typer

from cli.commands.aggregates import aggregates
from cli.commands.audit import audit
from cli.commands.backup import backup, restore
from cli.commands.books import books_cli
from cli.commands.connections import connections
from cli.commands.dead_letters import dead_letters_cli
from cli.commands.export import export
from cli.commands.install import install
from cli.commands.lake_run import lake_run
from cli.commands.lake_upkeep import lake_cli
from cli.commands.limits import limits_cli
from cli.commands.rebuild import rebuild
from cli.commands.risk import risk_cli
from cli.commands.scenarios import scenarios_cli
from cli.commands.schemas import schemas_cli
from cli.commands.sql import sql
from cli.commands.status import doctor, status, upgrade
from cli.commands.system import reset, token, up
from cli.commands.task import task
from cli.commands.tenant import tenant_cli
from cli.commands.topics import topics_cli
from cli.console import print_line
from tapewire import __version__

_HELP = """Tapewire: event streams on Kafka that clients can resume on any node.

Producers write progress and alert events to Kafka, processors compute risk
and alerts, and edge nodes serve server-sent events whose ids are positions in
the log.

`tapewire up` runs all of it on this machine. The other commands find that
system by its data directory, and say which system they work with. Settings are
environment variables; set KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own.
"""


def _print_version(value: bool) -> None:  # noqa: FBT001  # as typer calls it
    if value:
        print_line(f"tapewire {__version__}")
        raise typer.Exit


cli = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",  # paragraphs are wrapped as the terminal needs it
)


@cli.callback(help=_HELP)
def options(
    version: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and exit."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


for command in (
    up,
    reset,
    install,
    status,
    doctor,
    upgrade,
    backup,
    restore,
    connections,
    task,
    token,
    rebuild,
    audit,
    export,
    sql,
    aggregates,
):
    cli.command()(command)
cli.add_typer(books_cli, name="books")
cli.add_typer(dead_letters_cli, name="dead-letters")
cli.add_typer(limits_cli, name="limits")
cli.add_typer(risk_cli, name="risk")
cli.add_typer(scenarios_cli, name="scenarios")
cli.add_typer(schemas_cli, name="schemas")
cli.add_typer(tenant_cli, name="tenant")
cli.add_typer(topics_cli, name="topics")
lake_cli.command("run")(lake_run)
cli.add_typer(lake_cli, name="lake")
