"""`tapewire audit`: lists who changed what, and from where."""

from typing import Annotated

import typer

from cli.audit import show
from cli.console import DataDir, Token, Url, print_lines, print_note, reasons, settings_of
from cli.target import find_edge


def audit(
    count: Annotated[int, typer.Option(min=1, max=1_000, help="The most changes.")] = 100,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List who changed what, and from where, the newest first.

    Changes of limits, books and scenarios, acknowledgements of alerts, switches to rebuilt states
    and the growth of topics.
    """
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_lines(show(edge, count, token))
