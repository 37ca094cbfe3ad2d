"""The terminal: prints lines, and exits with the reason where a command fails."""

import asyncio
import sys
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cli.errors import CommandError
from infra.errors import InfraError
from infra.settings import InfraSettings

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the embedded broker's data and all log files.  [default: .tapewire]",
        show_default=False,
    ),
]
Url = Annotated[str, typer.Option(help="The address of any edge.")]

LOCAL_EDGE = "http://localhost:8000"
"""The address of the first edge that `tapewire up` starts."""


def print_line(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines at once."""
    print_line("\n".join(lines))


@contextmanager
def reasons() -> Generator[None]:
    """Exit with code 1 and the reason where the system or a command fails.

    Raises:
        SystemExit: it failed.
    """
    try:
        yield
    except (InfraError, CommandError) as error:
        sys.exit(f"tapewire: {error}")


def run(command: Coroutine[Any, Any, None]) -> None:
    """Run a command on an event loop, and exit with the reason if it fails.

    Raises:
        SystemExit: it failed.
    """
    with reasons():
        asyncio.run(command)


def settings_of(data_dir: Path | None) -> InfraSettings:
    """Return the settings of this environment, with the data folder that was given, if any.

    Raises:
        SystemExit: an environment variable is invalid.
    """
    try:
        settings = InfraSettings()
    except ValidationError as error:
        sys.exit(f"tapewire: a setting is invalid: {error}")
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})
