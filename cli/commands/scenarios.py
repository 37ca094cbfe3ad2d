"""`tapewire scenarios put`, `list`, `show` and `delete`: stress scenarios."""

from typing import Annotated, Any

import typer

from cli import scenarios
from cli.console import (
    AsJson,
    DataDir,
    Token,
    Url,
    print_answer,
    print_note,
    reasons,
    settings_of,
)
from cli.target import find_edge
from schemas.calendars import InvalidCalendar, parse_calendar

scenarios_cli = typer.Typer(no_args_is_help=True, help="Put, list and delete stress scenarios.")

_Name = Annotated[str, typer.Argument(help="The scenario.")]


@scenarios_cli.command("put")
def put_scenario(  # noqa: PLR0913, PLR0917  # each is an option of the command
    name: _Name,
    since: Annotated[
        str | None, typer.Option("--from", help="The first day of the past, as in 2008-09-15.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="The last day, inclusive; --from if left out.")
    ] = None,
    shock: Annotated[
        list[str] | None,
        typer.Option(help="The return of a series, as in SPX=-0.2; repeat it for several."),
    ] = None,
    factor: Annotated[
        str | None,
        typer.Option(help="A shocked series that all others follow by their betas to it."),
    ] = None,
    calendar: Annotated[
        str | None,
        typer.Option(
            help="The calendar of the days of the past, such as America/New_York; UTC by default."
        ),
    ] = None,
    comment: Annotated[str, typer.Option(help="The reason; the log keeps it.")] = "",
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Put a scenario: days of the past (--from, --to), or shocks that you give (--shock)."""
    body = _body(since, until, shock or [], factor)
    if calendar is not None:
        if since is None:
            raise typer.BadParameter("--calendar goes with --from only")
        body["calendar"] = _calendar(calendar)
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(scenarios.put(edge, name, {**body, "comment": comment}, token), json=json)


@scenarios_cli.command("list")
def list_scenarios(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List the scenarios."""
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(scenarios.listed(edge, token), json=json)


@scenarios_cli.command("show")
def show_scenario(
    name: _Name,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Show a scenario with its shocks."""
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(scenarios.shown(edge, name, token), json=json)


@scenarios_cli.command("delete")
def delete_scenario(
    name: _Name,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Withdraw a scenario; nothing is valued by it any more."""
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_answer(scenarios.delete(edge, name, token), json=json)


def _body(
    since: str | None, until: str | None, shocks: list[str], factor: str | None
) -> dict[str, Any]:
    """Return the request that the options of `put` make.

    Raises:
        BadParameter: the options do not fit each other, or a shock is none.
    """
    if (since is None) == (not shocks):
        raise typer.BadParameter("give either --from, or --shock once or more")
    if since is not None:
        if factor is not None:
            raise typer.BadParameter("--factor goes with --shock only")
        return {"kind": "historical", "from": since, "to": until or since}
    if until is not None:
        raise typer.BadParameter("--to goes with --from only")
    body: dict[str, Any] = {"kind": "hypothetical", "shocks": dict(map(_shock, shocks))}
    return body if factor is None else {**body, "others": "beta", "factor": factor}


def _calendar(text: str) -> str:
    try:
        parse_calendar(text)
    except InvalidCalendar as error:
        raise typer.BadParameter(f"--calendar: {error}") from error
    return text


def _shock(text: str) -> tuple[str, float]:
    series_id, equals, value = text.rpartition("=")
    try:
        if equals and series_id:
            return series_id, float(value)
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is no shock; write SERIES=RETURN, as in SPX=-0.2")
