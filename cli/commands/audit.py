"""`tapewire audit`: who changed limits, books and scenarios, and acknowledged alerts."""

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
    """List who changed limits, books and scenarios and acknowledged alerts, the newest first."""
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        print_lines(show(edge, count, token))
