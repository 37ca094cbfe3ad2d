"""`tapewire task`: requests, follows and compares training tasks."""

from json import dumps
from typing import Annotated

import typer

from cli import training_tasks
from cli.console import (
    AsJson,
    DataDir,
    Token,
    Url,
    print_answer,
    print_line,
    print_note,
    reasons,
    run,
    settings_of,
)
from cli.target import find_edge


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
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Request a training task, or follow one.

    `tapewire task --new` requests a task and follows it; `tapewire task ID` follows a task;
    `tapewire task --compare ID` polls and streams a task, and prints the cost of each.
    With --json, each status is an object on a line of its own.
    """
    if sum((task_id is not None, new, compare is not None)) != 1:
        raise typer.BadParameter("give one of ID, --new and --compare ID")
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
    if compare is not None:
        say = print_note if json else print_line
        print_answer(run(training_tasks.compare(edge, compare, say, token)), json=json)
    elif task_id is not None:
        run(_follow(edge, task_id, token, json=json))
    else:
        run(_request(edge, meter_id, meter_type, token, json=json))


async def _request(
    url: str, meter_id: str, meter_type: str, token: str | None, *, json: bool
) -> None:
    task_id = await training_tasks.request(url, meter_id, meter_type, token)
    (print_note if json else print_line)(f"task {task_id}")
    await _follow(url, task_id, token, json=json)


async def _follow(url: str, task_id: str, token: str | None, *, json: bool) -> None:
    async for status in training_tasks.follow(url, task_id, bearer=token):
        print_line(dumps(status) if json else training_tasks.line_of(status))
