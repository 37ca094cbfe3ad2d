"""The `tapewire` command: its commands, and the text of `tapewire --help`."""

import typer

from cli.commands.limits import limits_cli
from cli.commands.rebuild import rebuild
from cli.commands.risk import risk_cli
from cli.commands.system import reset, token, up
from cli.commands.task import task
from cli.commands.topics import topics_cli

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Tapewire: event streams on Kafka that clients can resume on any node.

    Producers write progress and alert events to Kafka, processors compute risk and alerts, and edge
    nodes serve server-sent events whose ids are positions in the log.

    `tapewire up` runs all of it on this machine. Settings are environment variables; set
    KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own.""",
)
for command in (up, reset, task, token, rebuild):
    cli.command()(command)
cli.add_typer(limits_cli, name="limits")
cli.add_typer(risk_cli, name="risk")
cli.add_typer(topics_cli, name="topics")


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
