"""`tapewire risk replay` and `replay-book`: analyse past risk."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.answers import Answer
from cli.console import AsJson, DataDir, print_answer, print_note, reasons, settings_of
from cli.errors import NoHistory
from cli.progress import working
from cli.target import find_kafka
from schemas.instants import from_datetime

_DAY_US = 86_400_000_000
METHODS = (
    "historical",
    "normal",
    "student_t",
    "cornish_fisher",
    "ewma",
    "fhs",
    "age_weighted",
    "student_t_fitted",
)
"""As `stream_processors.risk.estimates` has them, which would load SciPy for a help text."""

risk_cli = typer.Typer(no_args_is_help=True, help="Analyse past risk.")


_Since = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day.")]
_Until = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day.")]


@risk_cli.command("replay")
def replay(  # noqa: PLR0913, PLR0917  # each is an option of the command
    portfolio: Annotated[str, typer.Option(help="The portfolio.")],
    since: _Since,
    until: _Until,
    method: Annotated[
        str, typer.Option(help=f"The method: one of {', '.join(METHODS)}.")
    ] = "historical",
    confidence: Annotated[str, typer.Option(help="The confidence of the VaR.")] = "0.95",
    limit: Annotated[
        float | None,
        typer.Option(
            help="The limit of the VaR at all times.  [default: the limits in the log]",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="The tenant of the portfolio; else that of TAPEWIRE_TENANT, or none."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also draw a picture to this .png or .svg file.")
    ] = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Print the alerts that were raised, or that another method or limit would have raised.

    Reads the log of the system on the data directory, or of KAFKA_BOOTSTRAP_SERVERS, and prints the
    transitions of the alerts and the backtest of the method. Late and corrected returns count as
    they did for the running system. Without --limit, the limits, acknowledgements and stress
    scenarios in the log judge as they did: the alerts of all metrics have the ids that were sent.
    Window, minimum, default limits and hysteresis are the processors' settings in this environment.
    """
    from cli import risk_replay  # noqa: PLC0415  # these load SciPy
    from stream_processors.risk.confidence import (  # noqa: PLC0415  # as well
        ConfidenceLevel,
        InvalidInput,
    )
    from stream_processors.risk.thresholds import InvalidRule  # noqa: PLC0415  # as well
    from stream_processors.settings import ProcessorSettings  # noqa: PLC0415  # as well

    since_us, until_us = _range(since, until)
    with reasons():
        try:
            processors = ProcessorSettings()
            query = risk_replay.query_of(
                processors,
                portfolio_id=portfolio,
                method=method.lower(),
                level=ConfidenceLevel.of(confidence),
                limit=limit,
                since_us=since_us,
                until_us=until_us,
            )
            kafka = find_kafka(settings_of(data_dir), print_note)
            with working(f"reading and measuring the returns of {portfolio}"):
                settings = kafka.producer_settings()
                named = settings.tenant if tenant is None else tenant
                result = risk_replay.run(query, settings, named or None, processors)
        except (InvalidInput, InvalidRule) as error:
            raise NoHistory(str(error)) from error
        lines = list(risk_replay.table(result, query))
        if out is not None:
            risk_replay.draw(result, query, out)
            lines.append(f"the picture is {out}")
        document = risk_replay.as_json(result, query)
        document["picture"] = None if out is None else str(out)
        print_answer(Answer(document, lines), json=json)


@risk_cli.command("replay-book")
def replay_book(
    book: Annotated[str, typer.Argument(help="The book, as ROOT/BOOK; the root is ROOT/ROOT.")],
    since: _Since,
    until: _Until,
    tenant: Annotated[
        str | None,
        typer.Option(help="The tenant of the book; else that of TAPEWIRE_TENANT, or none."),
    ] = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Print the alerts that a book has raised, with the ids that were sent.

    Reads the log of the system on the data directory, or of KAFKA_BOOTSTRAP_SERVERS, from its
    beginning: limits, acknowledgements, scenarios, holdings and returns, in the order in which the
    processors took them. Window, minimum and calendar are the processors' settings in this
    environment.
    """
    from cli import book_replay  # noqa: PLC0415  # it loads SciPy
    from stream_processors.settings import ProcessorSettings  # noqa: PLC0415  # as well

    since_us, until_us = _range(since, until)
    with reasons():
        kafka = find_kafka(settings_of(data_dir), print_note)
        with working(f"reading and measuring the tree of {book}"):
            settings = kafka.producer_settings()
            named = settings.tenant if tenant is None else tenant
            past = book_replay.run(book, settings, named or None, ProcessorSettings())
        alerts = book_replay.of_days(past, since_us, until_us)
        document = book_replay.as_json(past, alerts)
        print_answer(Answer(document, book_replay.table(past, alerts)), json=json)


def _range(since: datetime, until: datetime) -> tuple[int, int]:
    """Return the times at which the first of some days begins and the last one ends."""
    if since > until:
        raise typer.BadParameter(
            f"{since:%Y-%m-%d} is after --to, which is {until:%Y-%m-%d}", param_hint="--from"
        )
    return (
        from_datetime(since.replace(tzinfo=UTC)),
        from_datetime(until.replace(tzinfo=UTC)) + _DAY_US,
    )
