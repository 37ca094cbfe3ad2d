"""The `tapewire` command: runs what the arguments say, with the modules that it needs."""

import sys
from collections.abc import Sequence

import typer

from infra.fork_server import ForkedPart


def main() -> None:
    """Run the command line."""
    run(commands_for(sys.argv[1:]))


def run(commands: typer.Typer) -> None:
    """Run the command that the arguments of this process name."""
    for argument in sys.argv[1:]:
        if not _is_text(argument):
            sys.exit(f"tapewire: the argument {argument!a} is no UTF-8 text")
    try:
        commands()
    except ForkedPart as forked:  # this process is a part of `up`
        part = forked
    else:
        return
    part.run()


def commands_for(arguments: Sequence[str]) -> typer.Typer:
    """Return the commands of which the arguments name one.

    `up` comes alone: the broker starts when its modules are imported, and those of all commands
    take half as long again.
    """
    if arguments[:1] != ["up"]:
        from cli.app import cli  # noqa: PLC0415  # see above

        return cli
    from cli.commands.system import up  # noqa: PLC0415  # see above

    alone = typer.Typer(rich_markup_mode="markdown")
    alone.callback()(_keep_name)
    alone.command()(up)
    return alone


def _keep_name() -> None:
    """Do nothing: with a callback, a single command is called by its name."""


def _is_text(argument: str) -> bool:
    """Return whether an argument is text in the encoding of the system."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    main()
