"""`tapewire`: the system by one command."""

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
from infra.system import Wanted as WantedSystem, reset as remove, run
from kafka_io.settings import ProducerSettings
from schemas.instants import from_datetime
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.replay import ReplayQuery
from stream_processors.risk.thresholds import InvalidRule

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Tapewire: event streams that browsers can resume on any node.

    Producers write progress and alerts to Kafka; processors judge risk; edge nodes serve
    server-sent events whose ids are cursors into the log.

    `tapewire up` runs all of it on this machine. Settings come from the environment: set
    KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own; the README lists the others.""",
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the embedded broker's log and all parts' logs are kept.  [default: .tapewire]",
        show_default=False,
    ),
]


@cli.command()
def up(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of the first edge; the next free one if taken.")
    ] = 8000,
    data_dir: DataDir = None,
    demo: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--demo/--no-demo",
            help="Replay real prices, 2000 to 2013, and run real trainings and backtests.",
        ),
    ] = True,
    edges: Annotated[int, typer.Option(min=1, max=64, help="How many edge nodes to run.")] = 1,
    speed: Annotated[
        float, typer.Option(help="Trading days that the demo replays a second.")
    ] = 40.0,
) -> None:
    """Run the whole system: broker, topics, processor, edges and demo.

    Prints a line for each part as it becomes ready, then the address to open. Ctrl-C stops the
    parts in order. A part that dies is started again; one that keeps dying stops everything, with
    exit code 1.
    """
    if not speed > 0:
        raise typer.BadParameter(f"it is {speed}; it must be more than 0", param_hint="--speed")
    wanted = WantedSystem(port=port, edges=edges, demo=demo, speed=speed)
    _or_explain(lambda: asyncio.run(run(_settings(data_dir), wanted, _say)))


@cli.command()
def reset(data_dir: DataDir = None) -> None:
    """Forget everything: remove the embedded broker's log and all parts' logs."""
    folder = _settings(data_dir).data_dir
    removed = []
    _or_explain(lambda: removed.append(remove(folder)))
    _say(f"{folder} is gone" if any(removed) else f"there is no {folder}")


@cli.command()
def task(
    task_id: Annotated[str | None, typer.Argument(help="The task to follow.")] = None,
    new: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--new", help="Ask for a training, and follow it.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Poll and stream this task, and compare the two."),
    ] = None,
    meter_id: Annotated[str, typer.Option(help="With --new: whose consumption.")] = "meter_1",
    meter_type: Annotated[
        str, typer.Option(help="With --new: electricity, gas or water.")
    ] = "electricity",
    url: Annotated[str, typer.Option(help="Of any edge.")] = "http://localhost:8000",
) -> None:
    """Train a forecast of a meter's consumption, and watch it.

    `tapewire task --new` asks for one and follows it; `tapewire task ID` follows one;
    `tapewire task --compare ID` polls and streams the same task and prints what each took.
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
    sub: Annotated[str, typer.Option(help="Who it says one is.")],
    tenant: Annotated[str | None, typer.Option(help="Whose events one may see.")] = None,
    ttl: Annotated[float, typer.Option(min=1, help="Seconds for which it is good.")] = 3600.0,
    data_dir: DataDir = None,
) -> None:
    """Print a token for a system that `tapewire up` runs with no issuer configured."""
    _say(issuer.token(_settings(data_dir).data_dir, sub, tenant, ttl))


@cli.command(name="rebuild")
def rebuild_risk(
    version: Annotated[
        str,
        typer.Argument(
            help="A name for it, such as v2: it stands before the names of the topics written."
        ),
    ],
    switch: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option("--switch/--no-switch", help="Have the running workers go on from it."),
    ] = True,
    data_dir: DataDir = None,
) -> None:
    """Compute all measures and alerts anew, from the beginning of the log.

    After processors were upgraded, or a method, window or default limit was changed: a worker
    beside those that run reads everything again, under the settings of this environment, which
    should be theirs. What differs is printed, then they go on from what it has found.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", version):
        raise typer.BadParameter(f"it is {version!r}; use letters, digits, - and _")
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


limits_cli = typer.Typer(no_args_is_help=True, help="What portfolios' risk may be.")
cli.add_typer(limits_cli, name="limits")

Url = Annotated[str, typer.Option(help="Of any edge.")]
Bearer = Annotated[
    str | None, typer.Option("--token", envvar="TAPEWIRE_TOKEN", help="Who you are, as a JWT.")
]
_EDGE = "http://localhost:8000"


@limits_cli.command("set")
def set_limit(
    portfolio: Annotated[str, typer.Argument(help="Whose risk.")],
    limit: Annotated[float, typer.Argument(help="What it may be, as a fraction of its value.")],
    metric: Annotated[str, typer.Option(help="var_95, es_95, var_99 or es_99.")] = "var_95",
    warn_ratio: Annotated[
        float | None, typer.Option(help="Share of the limit from which to warn.")
    ] = None,
    critical_ratio: Annotated[
        float | None, typer.Option(help="Multiple of the limit from which it is critical.")
    ] = None,
    stale_after: Annotated[
        float | None, typer.Option(help="Seconds after which a measure is too old.")
    ] = None,
    comment: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
    url: Url = _EDGE,
    token: Bearer = None,
) -> None:
    """Set a portfolio's limit, in place of those it had; processors judge by it at once."""
    one = {"metric": metric, "limit": limit, "warn_ratio": warn_ratio}
    wanted = {
        "limits": [one | {"critical_ratio": critical_ratio}],
        "stale_after_s": stale_after,
        "comment": comment,
    }
    _say_all(lambda: limits.change(url, portfolio, wanted, token))


@limits_cli.command("withdraw")
def withdraw_limits(
    portfolio: Annotated[str, typer.Argument(help="Whose limits.")],
    url: Url = _EDGE,
    token: Bearer = None,
) -> None:
    """Go back to the processors' defaults."""
    _say_all(lambda: limits.change(url, portfolio, None, token))


@limits_cli.command("show")
def show_limits(
    portfolio: Annotated[str | None, typer.Argument(help="Whose; all, if not given.")] = None,
    url: Url = _EDGE,
    token: Bearer = None,
) -> None:
    """Show the limits that were set."""
    _say_all(lambda: limits.show(url, portfolio, token))


risk_cli = typer.Typer(no_args_is_help=True, help="Questions about risk in the past.")
cli.add_typer(risk_cli, name="risk")


@risk_cli.command("replay")
def replay(
    portfolio: Annotated[str, typer.Option(help="Whose returns.")],
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day.")],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "historical",
    confidence: Annotated[str, typer.Option(help="Of the VaR.")] = "0.95",
    limit: Annotated[float, typer.Option(help="What the VaR may be.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Draw a picture, too: a .png or .svg file.")
    ] = None,
) -> None:
    """Say what would have alerted: from the log, by any method and limit.

    Prints the steps of the alerts and how the method stood its test. Kafka is the one that
    KAFKA_BOOTSTRAP_SERVERS names, or that of `tapewire up` on this machine.
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
