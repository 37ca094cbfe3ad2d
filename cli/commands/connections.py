"""`tapewire connections`: lists who is connected, and closes a connection."""

from typing import Annotated

import typer

from cli import connections as open_connections
from cli.console import (
    AsJson,
    DataDir,
    Token,
    Url,
    print_json,
    print_line,
    print_lines,
    print_note,
    reasons,
    settings_of,
)
from cli.target import find_edge
from kafka_io.log_lines import escaped


def connections(
    close: Annotated[str | None, typer.Option(metavar="ID", help="Close this connection.")] = None,
    count: Annotated[
        int, typer.Option(min=1, max=1_000, help="The most connections of each edge.")
    ] = 100,
    edge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A further edge that may get the token; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List who is connected to the edges, since when, and how far behind.

    Each tenant sees its own connections. With --close, a connection ends between two events; its
    client comes back at its cursor, unless it has a reason not to. `tapewire audit` shows who
    closed it. The token goes to the addresses of --url and --edge only.
    """
    with reasons():
        asked = find_edge(url, settings_of(data_dir), print_note)
        if close is not None:
            closed = open_connections.close(asked, token, close, edge or ())
            if json:
                print_json(closed)
            else:
                print_line(escaped(f"closed {closed['id']} of {closed['client_id']}"))
            return
        rows, notes = open_connections.find(asked, token, count, edge or ())
        if json:
            print_json({"connections": rows, "notes": notes})
        else:
            print_lines(open_connections.lines_of(rows, notes))
