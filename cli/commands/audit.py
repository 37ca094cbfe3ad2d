"""`tapewire audit`: lists who changed what, and from where."""

from typing import Annotated

import typer

from cli.audit import changes, show
from cli.console import (
    AsJson,
    DataDir,
    Token,
    Url,
    print_json,
    print_lines,
    print_note,
    reasons,
    settings_of,
)
from cli.target import find_edge


def audit(
    count: Annotated[int, typer.Option(min=1, max=1_000, help="The most changes.")] = 100,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List who changed what, and from where, the newest first.

    Changes of limits, books and scenarios, acknowledgements of alerts, switches to rebuilt states,
    the growth of topics, and what was done with dead letters and connections.
    """
    with reasons():
        edge = find_edge(url, settings_of(data_dir), print_note)
        if json:
            print_json(changes(edge, count, token))
        else:
            print_lines(show(edge, count, token))
