"""The `tapewire` command: the whole system, and questions to it."""

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cli import limits, rebuild, risk_replay as history, training_tasks as tasks
from infra import demo_issuer as issuer
from infra.errors import InfraError, NoHistory
from infra.settings import InfraSettings
from infra.system import SystemOptions, reset as remove, run
from kafka_io.settings import ProducerSettings
from schemas.instants import from_datetime
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.replay import ReplayQuery
from stream_processors.risk.thresholds import InvalidRule

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Tapewire: event streams on Kafka that clients can resume on any node.

    Producers write progress and alert events to Kafka, processors compute risk and alerts, and edge
    nodes serve server-sent events whose ids are positions in the log.

    `tapewire up` runs all of it on this machine. Settings are environment variables; set
    KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own.""",
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the embedded broker's data and all log files.  [default: .tapewire]",
        show_default=False,
    ),
]


@cli.command()
def up(
    port: Annotated[
        int,
        typer.Option(
            min=1, max=65535, help="The port of the first edge; the next free one if it is taken."
        ),
    ] = 8000,
    data_dir: DataDir = None,
    demo: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--demo/--no-demo",
            help="Replay real prices of 2000 to 2013, with training runs and backtests.",
        ),
    ] = True,
    edges: Annotated[int, typer.Option(min=1, max=64, help="The number of edge nodes.")] = 1,
    speed: Annotated[
        float, typer.Option(help="The number of trading days that the demo replays in a second.")
    ] = 40.0,
) -> None:
    """Run the whole system: broker, topics, processor, edges, workers and demo.

    Prints a line for each part when it is ready, then the address to open. Ctrl-C stops the parts
    in order. A part that dies is restarted; if it keeps dying, the command stops everything and
    exits with code 1.
    """
    if not speed > 0:
        raise typer.BadParameter(
            f"{speed} is invalid; it must be more than 0", param_hint="--speed"
        )
    wanted = SystemOptions(port=port, edges=edges, demo=demo, speed=speed)
    _or_explain(lambda: asyncio.run(run(_settings(data_dir), wanted, _say)))


@cli.command()
def reset(data_dir: DataDir = None) -> None:
    """Delete the data of the embedded broker and all log files."""
    folder = _settings(data_dir).data_dir
    removed = []
    _or_explain(lambda: removed.append(remove(folder)))
    _say(f"{folder} is gone" if any(removed) else f"there is no {folder}")


@cli.command()
def task(
    task_id: Annotated[str | None, typer.Argument(help="The task to follow.")] = None,
    new: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--new", help="Request a training, and follow it.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Poll and stream this task, and compare the two."),
    ] = None,
    meter_id: Annotated[str, typer.Option(help="With --new, the meter to forecast.")] = "meter_1",
    meter_type: Annotated[
        str, typer.Option(help="With --new, the type of the meter: electricity, gas or water.")
    ] = "electricity",
    url: Annotated[str, typer.Option(help="The address of any edge.")] = "http://localhost:8000",
) -> None:
    """Request a training task, or follow one.

    `tapewire task --new` requests a task and follows it; `tapewire task ID` follows a task;
    `tapewire task --compare ID` polls and streams a task, and prints the cost of each.
    """
    if sum((task_id is not None, new, compare is not None)) != 1:
        raise typer.BadParameter("give one of ID, --new and --compare ID")
    if compare is not None:
        _or_explain(lambda: asyncio.run(tasks.compare(url, compare, _say)))
    else:
        _or_explain(lambda: asyncio.run(_watch(url, task_id, meter_id, meter_type)))


async def _watch(url: str, task_id: str | None, meter_id: str, meter_type: str) -> None:
    if task_id is None:
        task_id = await tasks.ask(url, meter_id, meter_type)
        _say(f"task {task_id}")
    async for status in tasks.follow(url, task_id):
        _say(tasks.line_of(status))


@cli.command()
def token(
    sub: Annotated[str, typer.Option(help="The user, as the token's `sub`.")],
    tenant: Annotated[
        str | None, typer.Option(help="The tenant of the user; none if it is left out.")
    ] = None,
    ttl: Annotated[
        float, typer.Option(min=1, help="The number of seconds until the token expires.")
    ] = 3600.0,
    data_dir: DataDir = None,
) -> None:
    """Print a token for a system that `tapewire up` runs without an issuer."""
    _say(issuer.token(_settings(data_dir).data_dir, sub, tenant, ttl))


@cli.command(name="rebuild")
def rebuild_risk(
    version: Annotated[
        str,
        typer.Argument(
            help="A new name, such as v2; it is the prefix of the topics that are written."
        ),
    ],
    switch: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--switch/--no-switch",
            help="Let the running workers continue from the result, or only compare.",
        ),
    ] = True,
    data_dir: DataDir = None,
) -> None:
    """Compute all measures and alerts again, from the beginning of the log.

    Use it after an upgrade of the processors, or a change of a method, window or default limit. A
    worker beside the running ones reads the whole log with the settings of this environment, which
    should be theirs. The command prints the differences; then the running workers continue from
    the result.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", version):
        raise typer.BadParameter(f"{version!r} is invalid; use letters, digits, - and _")
    of_system = _settings(data_dir)
    made = rebuild.rebuild(
        ProducerSettings(),
        version,
        of_system.data_dir / "logs",
        _say,
        switch=switch,
        env={"TAPEWIRE_VAR_LIMITS": of_system.var_limits},
    )
    _or_explain(lambda: asyncio.run(made))


limits_cli = typer.Typer(
    no_args_is_help=True, help="Set, list and withdraw the limits of portfolios."
)
cli.add_typer(limits_cli, name="limits")

Url = Annotated[str, typer.Option(help="The address of any edge.")]
Bearer = Annotated[
    str | None, typer.Option("--token", envvar="TAPEWIRE_TOKEN", help="Your access token, a JWT.")
]
_EDGE = "http://localhost:8000"


@limits_cli.command("set")
def set_limit(
    portfolio: Annotated[str, typer.Argument(help="The portfolio.")],
    limit: Annotated[float, typer.Argument(help="The limit, as a fraction of net asset value.")],
    metric: Annotated[
        str, typer.Option(help="The limited metric: var_95, es_95, var_99 or es_99.")
    ] = "var_95",
    warn_ratio: Annotated[
        float | None, typer.Option(help="The fraction of the limit at which to warn.")
    ] = None,
    critical_ratio: Annotated[
        float | None, typer.Option(help="The multiple of the limit at which an alert is critical.")
    ] = None,
    stale_after: Annotated[
        float | None, typer.Option(help="The seconds after which a measure is stale.")
    ] = None,
    comment: Annotated[str, typer.Option(help="The reason; the log keeps it.")] = "",
    url: Url = _EDGE,
    token: Bearer = None,
) -> None:
    """Replace a portfolio's limits with one limit, which processors apply at once."""
    one = {"metric": metric, "limit": limit, "warn_ratio": warn_ratio}
    wanted = {
        "limits": [one | {"critical_ratio": critical_ratio}],
        "stale_after_s": stale_after,
        "comment": comment,
    }
    _say_all(lambda: limits.change(url, portfolio, wanted, token))


@limits_cli.command("withdraw")
def withdraw_limits(
    portfolio: Annotated[str, typer.Argument(help="The portfolio.")],
    url: Url = _EDGE,
    token: Bearer = None,
) -> None:
    """Withdraw a portfolio's limits; the processors' defaults apply again."""
    _say_all(lambda: limits.change(url, portfolio, None, token))


@limits_cli.command("show")
def show_limits(
    portfolio: Annotated[
        str | None, typer.Argument(help="The portfolio; all if it is left out.")
    ] = None,
    url: Url = _EDGE,
    token: Bearer = None,
) -> None:
    """List the limits that were set."""
    _say_all(lambda: limits.show(url, portfolio, token))


risk_cli = typer.Typer(no_args_is_help=True, help="Analyse past risk.")
cli.add_typer(risk_cli, name="risk")


@risk_cli.command("replay")
def replay(
    portfolio: Annotated[str, typer.Option(help="The portfolio.")],
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day.")],
    method: Annotated[
        str, typer.Option(help=f"The method: one of {', '.join(METHODS)}.")
    ] = "historical",
    confidence: Annotated[str, typer.Option(help="The confidence of the VaR.")] = "0.95",
    limit: Annotated[float, typer.Option(help="The limit of the VaR.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Also draw a picture to this .png or .svg file.")
    ] = None,
) -> None:
    """Print the alerts that another method or limit would have raised.

    Reads returns from the log of KAFKA_BOOTSTRAP_SERVERS, or of `tapewire up` on this machine, and
    prints the transitions of the alerts and the backtest of the method.
    """
    day_us = 86_400_000_000

    def answered() -> list[str]:
        try:
            wanted = ReplayQuery(
                portfolio_id=portfolio,
                method=method,
                level=ConfidenceLevel.of(confidence),
                limit=limit,
                since_us=from_datetime(since.replace(tzinfo=UTC)),
                until_us=from_datetime(until.replace(tzinfo=UTC)) + day_us,
            )
            found = history.answer(wanted, ProducerSettings())
        except (InvalidInput, InvalidRule) as error:
            raise NoHistory(str(error)) from error
        lines = list(history.table(found, wanted))
        if out is not None:
            history.draw(found, wanted, out)
            lines.append(f"the picture is {out}")
        return lines

    _say_all(answered)


def main() -> None:
    """Run the command line."""
    cli()


def _settings(data_dir: Path | None) -> InfraSettings:
    try:
        settings = InfraSettings()
    except ValidationError as error:
        sys.exit(f"tapewire: a setting has no meaning: {error}")
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})


def _or_explain(action: Callable[[], object]) -> None:
    try:
        action()
    except InfraError as error:
        sys.exit(f"tapewire: {error}")


def _say_all(action: Callable[[], Sequence[str]]) -> None:
    _or_explain(lambda: _say("\n".join(action())))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
