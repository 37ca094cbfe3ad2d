"""`tapewire task`: requests, follows and compares training tasks."""

from typing import Annotated

import typer

from cli import training_tasks
from cli.console import LOCAL_EDGE, Url, print_line, run


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
    url: Url = LOCAL_EDGE,
) -> None:
    """Request a training task, or follow one.

    `tapewire task --new` requests a task and follows it; `tapewire task ID` follows a task;
    `tapewire task --compare ID` polls and streams a task, and prints the cost of each.
    """
    if sum((task_id is not None, new, compare is not None)) != 1:
        raise typer.BadParameter("give one of ID, --new and --compare ID")
    if compare is not None:
        run(training_tasks.compare(url, compare, print_line))
    else:
        run(_follow(url, task_id, meter_id, meter_type))


async def _follow(url: str, task_id: str | None, meter_id: str, meter_type: str) -> None:
    if task_id is None:
        task_id = await training_tasks.request(url, meter_id, meter_type)
        print_line(f"task {task_id}")
    async for status in training_tasks.follow(url, task_id):
        print_line(training_tasks.line_of(status))
