"""`tapewire limits set`, `withdraw` and `show`: the limits of portfolios."""

from typing import Annotated

import typer

from cli import limits
from cli.console import (
    ApprovedBy,
    AsJson,
    ClearAfter,
    CriticalRatio,
    DataDir,
    Hysteresis,
    RaiseAfter,
    StaleAfter,
    TemporaryLimit,
    Token,
    Url,
    ValidUntil,
    WarnRatio,
    print_answer,
    print_note,
    reasons,
    settings_of,
)
from cli.limit_requests import Runs, Temporary, body_of, limit_of
from cli.target import find_edge

limits_cli = typer.Typer(
    no_args_is_help=True, help="Set, list and withdraw the limits of portfolios."
)

_Portfolio = Annotated[str, typer.Argument(help="The portfolio.")]


@limits_cli.command("set")
def set_limit(  # noqa: PLR0913, PLR0917  # each is an option of the command
    portfolio: _Portfolio,
    limit: Annotated[float, typer.Argument(help="The limit, as a fraction of net asset value.")],
    metric: Annotated[
        str,
        typer.Option(
            help="The limited metric: var_95, es_95, var_99, es_99 or stress_loss:SCENARIO."
        ),
    ] = "var_95",
    warn_ratio: WarnRatio = None,
    critical_ratio: CriticalRatio = None,
    hysteresis: Hysteresis = None,
    raise_after: RaiseAfter = None,
    clear_after: ClearAfter = None,
    temporary_limit: TemporaryLimit = None,
    valid_until: ValidUntil = None,
    approved_by: ApprovedBy = None,
    stale_after: StaleAfter = None,
    comment: Annotated[str, typer.Option(help="The reason; the log keeps it.")] = "",
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Replace a portfolio's limits with one limit, which processors apply at once."""
    runs = Runs(hysteresis, raise_after, clear_after)
    temporary = Temporary(temporary_limit, valid_until, approved_by)
    new_limit = limit_of(metric, limit, warn_ratio, critical_ratio, runs, temporary)
    with reasons():
        body = body_of(new_limit, stale_after, comment)
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(limits.put(edge, portfolio, body, token), json=json)


@limits_cli.command("withdraw")
def withdraw_limits(
    portfolio: _Portfolio,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Withdraw a portfolio's limits; the processors' defaults apply again."""
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(limits.withdraw(edge, portfolio, token), json=json)


@limits_cli.command("show")
def show_limits(
    portfolio: Annotated[
        str | None, typer.Argument(help="The portfolio; all if it is left out.")
    ] = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List the limits that were set."""
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(limits.show(edge, portfolio, token), json=json)
