"""The terminal: prints lines, and exits with the reason where a command fails."""

import asyncio
import json
import sys
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli.answers import Answer
from cli.errors import CommandError
from infra.errors import InfraError
from infra.settings import InfraSettings
from kafka_io.client import check_framing, check_security
from kafka_io.clock import now_us
from kafka_io.errors import InvalidSetting
from schemas.instants import to_rfc3339

_T = TypeVar("_T")

OutFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="The file. [the standard output]"),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the embedded broker's data and all log files.  [default: .tapewire]",
        show_default=False,
    ),
]
WarnRatio = Annotated[
    float | None, typer.Option(help="The fraction of the limit at which to warn.")
]
CriticalRatio = Annotated[
    float | None, typer.Option(help="The multiple of the limit at which an alert is critical.")
]
Hysteresis = Annotated[
    float | None,
    typer.Option(
        help="The share of a threshold by which the metric must fall below it, so that the alert "
        "clears; 0.1 if it is left out."
    ),
]
RaiseAfter = Annotated[
    int | None,
    typer.Option(help="How many measures in a row must be above a threshold to raise an alert."),
]
ClearAfter = Annotated[
    int | None,
    typer.Option(help="How many measures in a row must be below a threshold to lower an alert."),
]
TemporaryLimit = Annotated[float | None, typer.Option(help="A higher limit for some time.")]
ValidUntil = Annotated[
    str | None, typer.Option(help="When it falls back, such as 2026-12-31T18:00:00Z.")
]
ApprovedBy = Annotated[str | None, typer.Option(help="The approver of the temporary limit.")]
StaleAfter = Annotated[
    float | None, typer.Option(help="The seconds after which a measure is stale.")
]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="TAPEWIRE_URL",
        help="The address of any edge.  [default: that of the system on the data directory]",
        show_default=False,
    ),
]
Token = Annotated[
    str | None, typer.Option("--token", envvar="TAPEWIRE_TOKEN", help="Your access token, a JWT.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do it without a question.", show_default=False)
]


def print_line(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def print_json(value: object) -> None:
    """Print a value as JSON, of ASCII characters."""
    print_line(json.dumps(value, indent=2))


def print_message(line: str) -> None:
    """Print a line as a JSON object of one line, with the time."""
    print_line(json.dumps({"at": to_rfc3339(now_us()), "message": line.strip()}))


def print_answer(answer: Answer, *, json: bool) -> None:
    """Print a command's answer: its document with `--json`, else its lines."""
    if json:
        print_json(answer.document)
    else:
        print_lines(answer.lines)


def print_note(line: str) -> None:
    """Print a line for the user beside the output: to the standard error."""
    print(line, file=sys.stderr, flush=True)


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether the user agrees; `yes` answers in advance.

    Raises:
        SystemExit: there is no terminal to ask.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        sys.exit(f"tapewire: there is no terminal to ask: {question} Give --yes to agree")
    return typer.confirm(question)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines at once."""
    print_line("\n".join(lines))


@contextmanager
def reasons() -> Generator[None]:
    """Exit with code 1 and the reason where the system or a command fails, or a setting is invalid.

    Raises:
        SystemExit: it failed.
    """
    try:
        yield
    except InvalidSetting as error:
        sys.exit(f"tapewire: a setting is invalid: {error}")
    except (InfraError, CommandError) as error:
        sys.exit(f"tapewire: {error}")


def run(command: Coroutine[Any, Any, _T]) -> _T:
    """Run a command on an event loop, return its result, and exit with the reason if it fails.

    Raises:
        SystemExit: it failed.
    """
    with reasons():
        return asyncio.run(command)


def settings_of(data_dir: Path | None) -> InfraSettings:
    """Return the settings of this environment, with the data folder that was given, if any.

    Raises:
        SystemExit: an environment variable is invalid.
    """
    try:
        settings = InfraSettings()
        check_security()
        check_framing(writes=False)
    except InvalidSetting as error:
        sys.exit(f"tapewire: a setting is invalid: {error}")
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})
