"""`tapewire up`, `reset` and `token`: the system on this machine."""

from typing import Annotated

import typer

from cli.console import DataDir, print_line, reasons, run, settings_of
from infra import demo_issuer
from infra.system import SystemOptions, reset as delete_data, run as run_system


def up(
    port: Annotated[
        int,
        typer.Option(
            min=1, max=65535, help="The port of the first edge; the next free one if it is taken."
        ),
    ] = 8000,
    data_dir: DataDir = None,
    demo: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--demo/--no-demo",
            help="Replay real prices of 2000 to 2013, with training runs and backtests.",
        ),
    ] = True,
    edges: Annotated[int, typer.Option(min=1, max=64, help="The number of edge nodes.")] = 1,
    speed: Annotated[
        float, typer.Option(help="The number of trading days that the demo replays in a second.")
    ] = 40.0,
) -> None:
    """Run the whole system: broker, topics, processor, edges, workers and demo.

    Prints a line for each part when it is ready, then the address to open. Ctrl-C stops the parts
    in order. A part that dies is restarted; if it keeps dying, the command stops everything and
    exits with code 1.
    """
    if not speed > 0:
        raise typer.BadParameter(
            f"{speed} is invalid; it must be more than 0", param_hint="--speed"
        )
    options = SystemOptions(port=port, edges=edges, demo=demo, speed=speed)
    run(run_system(settings_of(data_dir), options, print_line))


def reset(data_dir: DataDir = None) -> None:
    """Delete the data of the embedded broker and all log files."""
    folder = settings_of(data_dir).data_dir
    with reasons():
        existed = delete_data(folder)
        print_line(f"{folder} is gone" if existed else f"there is no {folder}")


def token(
    sub: Annotated[str, typer.Option(help="The user, as the token's `sub`.")],
    tenant: Annotated[
        str | None, typer.Option(help="The tenant of the user; none if it is left out.")
    ] = None,
    ttl: Annotated[
        float, typer.Option(min=1, help="The number of seconds until the token expires.")
    ] = 3600.0,
    data_dir: DataDir = None,
) -> None:
    """Print a token for a system that `tapewire up` runs without an issuer."""
    print_line(demo_issuer.token(settings_of(data_dir).data_dir, sub, tenant, ttl))
