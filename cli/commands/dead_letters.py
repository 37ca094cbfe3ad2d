"""`tapewire dead-letters`: lists, shows, re-drives and discards dead letters."""

import sys
from typing import Annotated

import typer

from cli.console import (
    AsJson,
    DataDir,
    Yes,
    confirmed,
    print_json,
    print_line,
    print_lines,
    print_note,
    reasons,
    run,
    settings_of,
)
from cli.dead_letters import (
    Choice,
    Outcome,
    as_json,
    discard as discard_letters,
    lines_of,
    read_letters,
    redrive as redrive_letters,
    show as show_letter,
)
from cli.moments import milliseconds_of
from cli.target import find_kafka
from kafka_io.log_lines import escaped
from kafka_io.settings import ProducerSettings
from schemas.events import DeadLetterReason

_REASONS = ", ".join(DeadLetterReason)
_NEWEST = 1_000

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="The letters, as TOPIC/PARTITION/OFFSET[/INDEX]."),
]
OfTopic = Annotated[str | None, typer.Option("--topic", help="Only letters about this topic.")]
OfReason = Annotated[
    str | None, typer.Option("--reason", help=f"Only letters of this reason: one of {_REASONS}.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="Only letters since then: @-1h, @-30m, @-2d, or a time such as 2026-11-30T08:00:00Z.",
    ),
]

dead_letters_cli = typer.Typer(
    no_args_is_help=True, help="List, show, re-drive and discard dead letters."
)


@dead_letters_cli.callback()
def dead_letters() -> None:
    """List, show, re-drive and discard dead letters."""


def _choice(
    ids: list[str] | None, topic: str | None, reason: str | None, state: str | None
) -> Choice:
    if reason is not None and reason not in tuple(DeadLetterReason):
        raise typer.BadParameter(f"{reason} is none of {_REASONS}", param_hint="--reason")
    return Choice(tuple(ids or ()), topic, reason, state)


@dead_letters_cli.command("list")
def list_(
    topic: OfTopic = None,
    reason: OfReason = None,
    state: Annotated[
        str, typer.Option(help="Only letters that are open, redriven or discarded; or all.")
    ] = "open",
    since: Since = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """List dead letters, the oldest first; of each partition, the last thousand."""
    if state not in ("open", "redriven", "discarded", "all"):
        raise typer.BadParameter(
            f"{state} is none of open, redriven, discarded and all", param_hint="--state"
        )
    choice = _choice(None, topic, reason, None if state == "all" else state)
    since_ms = milliseconds_of(since, "--from")

    async def show(settings: ProducerSettings) -> None:
        newest = _NEWEST if since_ms is None else None
        found = await read_letters(settings, choice, since_ms=since_ms, newest=newest)
        if json:
            print_json([as_json(letter) for letter in found])
        else:
            print_lines(lines_of(found))

    run(show(_settings(data_dir)))


@dead_letters_cli.command("show")
def show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="The letter, as TOPIC/PARTITION/OFFSET[/INDEX].")
    ],
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Show a dead letter, its record in the log, and whether it can be re-driven now.

    Where the topic was made anew and several letters have the name, this is the newest one.
    """

    async def print_letter(settings: ProducerSettings) -> None:
        *older, letter = await read_letters(settings, Choice((letter_id,)))
        described = await show_letter(settings, letter)
        described["older"] = [as_json(other) for other in older]
        if json:
            print_json(described)
            return
        for name, value in described.items():
            if not isinstance(value, dict | list):
                print_line(f"{name:<15} {'-' if value is None else escaped(str(value))}")
        if described["original"] is not None:
            print_line("original")
            print_json(described["original"])
        if older:
            print_line("older letters of this name, before its topic was made anew")
            print_lines(lines_of(older))

    run(print_letter(_settings(data_dir)))


@dead_letters_cli.command("redrive")
def redrive(
    ids: Ids = None,
    topic: OfTopic = None,
    reason: OfReason = None,
    since: Since = None,
    comment: Annotated[str, typer.Option(help="What was mended; the log keeps it.")] = "",
    yes: Yes = False,  # noqa: FBT002  # a flag of the command line
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Write the records of dead letters to their topics again, after the cause is mended.

    Each record is read from its topic, compared with the letter's SHA-256, and judged by the gate
    of its readers; one that would become a dead letter again is not written. It keeps its key,
    headers and CloudEvents id. A letter is re-driven once, also if the command is repeated. Name
    letters, or choose open ones by --topic, --reason and --from.
    """
    choice = _choice(ids, topic, reason, None if ids else "open")
    _settle(choice, since, comment, "Re-drive", is_redrive=True, yes=yes, json=json, data=data_dir)


@dead_letters_cli.command("discard")
def discard(
    comment: Annotated[str, typer.Option("--because", help="The reason; the log keeps it.")],
    ids: Ids = None,
    topic: OfTopic = None,
    reason: OfReason = None,
    since: Since = None,
    yes: Yes = False,  # noqa: FBT002  # a flag of the command line
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Set dead letters aside for good: they are listed no more, and cannot be re-driven."""
    if not comment.strip():
        raise typer.BadParameter("give the reason", param_hint="--because")
    choice = _choice(ids, topic, reason, None if ids else "open")
    _settle(choice, since, comment, "Discard", is_redrive=False, yes=yes, json=json, data=data_dir)


def _settle(
    choice: Choice,
    since: str | None,
    comment: str,
    verb: str,
    *,
    is_redrive: bool,
    yes: bool,
    json: bool,
    data: DataDir,
) -> None:
    if not choice.ids and choice.topic is None and choice.reason is None and since is None:
        raise typer.BadParameter("name letters, or choose them by --topic, --reason or --from")
    since_ms = milliseconds_of(since, "--from")
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if not json:
            print_line(escaped(f"{outcome.letter_id}: {outcome.text}"))

    async def settle(settings: ProducerSettings) -> None:
        letters = await read_letters(settings, choice, since_ms=since_ms)
        if is_redrive and choice.ids:
            letters = [letter for letter in letters if letter.is_newest]
        question = f"{verb} {len(letters)} dead letters?"
        if letters and (choice.ids or confirmed(question, yes=yes)):
            do = redrive_letters if is_redrive else discard_letters
            await do(settings, letters, comment, report)
        elif not json:
            print_line("nothing was done" if letters else "no dead letters")

    run(settle(_settings(data)))
    if json:
        print_json(
            [
                {
                    "id": outcome.letter_id,
                    "done": outcome.is_done,
                    "settled": outcome.is_settled,
                    "message": outcome.text,
                }
                for outcome in outcomes
            ]
        )
    if not all(outcome.is_settled for outcome in outcomes):
        sys.exit(1)


def _settings(data_dir: DataDir) -> ProducerSettings:
    with reasons():
        return find_kafka(settings_of(data_dir), print_note).producer_settings()
