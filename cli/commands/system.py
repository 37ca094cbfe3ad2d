"""`tapewire up`, `reset` and `token`: the system on this machine."""

from typing import Annotated

import typer

from cli.answers import Answer
from cli.console import (
    AsJson,
    DataDir,
    Yes,
    confirmed,
    print_answer,
    print_line,
    print_message,
    print_note,
    reasons,
    run,
    settings_of,
)
from cli.errors import NoSystem
from infra import demo_issuer
from infra.data_dir import find_running, reset as delete_data, size_bytes
from infra.system import SystemOptions, forking, run as run_system


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
    examples: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--examples", help="Serve the streams of `examples/sse-response` from each edge, too."
        ),
    ] = False,
    edges: Annotated[int, typer.Option(min=1, max=64, help="The number of edge nodes.")] = 1,
    speed: Annotated[
        float, typer.Option(help="The number of trading days that the demo replays in a second.")
    ] = 40.0,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Run the whole system: broker, topics, processor, edges, workers and demo.

    Prints a line for each part when it is ready, then the address to open. Ctrl-C stops the parts
    in order. A part that dies is restarted, again and again if need be, while the others go on.
    With --json, each line is an object with the time and the message.
    """
    if not speed > 0:
        raise typer.BadParameter(
            f"{speed} is invalid; it must be more than 0", param_hint="--speed"
        )
    options = SystemOptions(port=port, edges=edges, demo=demo, examples=examples, speed=speed)
    say = print_message if json else print_line
    settings = settings_of(data_dir)
    with forking(settings) as forks:
        run(run_system(settings, options, say, forks))


def reset(
    yes: Yes = False,  # noqa: FBT002  # a flag of the command line
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Delete the data of a system: the events of its embedded broker, models, logs and keys.

    Only a directory that bears Tapewire's mark is touched, and only what Tapewire has put into it.
    """
    folder = settings_of(data_dir).data_dir
    where = folder.resolve()
    with reasons():
        if not folder.exists():
            size, is_deleted, text = 0, False, f"there is no {where}"
        else:
            size, text = size_bytes(folder), "nothing was deleted"
            question = f"Delete {where}, {size / 1e6:,.0f} MB of Tapewire's data?"
            is_deleted = confirmed(question, yes=yes)
        if is_deleted:
            delete_data(folder)
            left = "; files of others are still there" if folder.exists() else ""
            text = f"deleted the data in {where}{left}"
        document = {
            "data_dir": str(where),
            "deleted": is_deleted,
            "bytes": size,
            "exists": folder.exists(),
        }
        print_answer(Answer(document, [text]), json=json)


def token(
    sub: Annotated[str, typer.Option(help="The user, as the token's `sub`.")],
    tenant: Annotated[
        str | None, typer.Option(help="The tenant of the user; none if it is left out.")
    ] = None,
    ttl: Annotated[
        float, typer.Option(min=1, help="The number of seconds until the token expires.")
    ] = 3600.0,
    scope: Annotated[
        str | None,
        typer.Option(
            help="The scopes that the token allows, with spaces between them, out of read, write, "
            "limits, ack and admin; all if it is left out."
        ),
    ] = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Print a token for the system of a data directory, which runs without another issuer."""
    settings = settings_of(data_dir)
    folder = settings.data_dir
    with reasons():
        if not demo_issuer.exists(folder):
            raise NoSystem(
                f"{folder.resolve()} has no key to sign with: `tapewire up` has never run on it; "
                "name the directory of the system by --data-dir"
            )
    system = find_running(folder)
    running = "which `tapewire up` does not run now" if system is None else f"at {system.url}"
    print_note(f"a token for the system on {folder.resolve()}, {running}")
    made = demo_issuer.token(folder, sub, tenant, ttl, scope)
    document = {
        "token": made,
        "sub": sub,
        "tenant": tenant,
        "scope": scope,
        "expires_in_s": int(ttl),
    }
    print_answer(Answer(document, [made]), json=json)
