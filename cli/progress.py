"""Progress of long work: a bar in a terminal, and a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_S = 5.0

Report = Callable[[int, int], None]
"""Takes how much is done, and how much there is."""


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Generator[Report]:
    """Show how much of some work is done, on the standard error.

    Args:
        title: the work, such as "reading returns".
        console: where the bar is shown.
    """
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield _lines(title, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def working(title: str, console: Console | None = None) -> Generator[None]:
    """Show in a terminal that work of unknown length is running, and for how long.

    Args:
        title: the work, such as "reading returns".
        console: where it is shown; the standard error by default.
    """
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(title, total=None)
        yield


def _lines(title: str, console: Console) -> Report:
    last_s = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _LINE_EVERY_S:
            last_s = now_s
            console.print(f"{title}: {done:,} of {total:,}", highlight=False)

    return report
