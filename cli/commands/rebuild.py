"""`tapewire rebuild`: computes past measures and alerts again."""

import re
import sys
from typing import Annotated

import typer

from cli.console import (
    AsJson,
    DataDir,
    Yes,
    confirmed,
    print_json,
    print_line,
    print_note,
    reasons,
    run,
    settings_of,
)
from cli.progress import progress_bar
from cli.target import find_kafka


def rebuild(
    version: Annotated[
        str,
        typer.Argument(
            help="A new name, such as v2; it is the prefix of the topics that are written."
        ),
    ],
    switch: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--switch/--no-switch",
            help="Let the running workers continue from the result, or only compare.",
        ),
    ] = True,
    tenant: Annotated[
        str | None,
        typer.Option(
            help="Compute and switch the portfolios of this tenant only; '' for those of no tenant."
        ),
    ] = None,
    portfolio: Annotated[
        str, typer.Option(help="Compute and switch this portfolio only, of every --tenant.")
    ] = "",
    yes: Yes = False,  # noqa: FBT002  # a flag of the command line
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Compute all measures and alerts again, from the beginning of the log.

    Use it after an upgrade of the processors, or a change of a method, window or default limit. A
    worker beside the running ones reads the whole log with the settings of this environment, which
    should be theirs. The command prints the differences and asks; then the running workers continue
    from the result, and clients receive what has changed. With --json, the result is printed at the
    end, and everything else goes to the standard error.
    """
    from cli.rebuild import Terminal, rebuild as rebuild_risk  # noqa: PLC0415  # it loads SciPy
    from stream_processors.risk.scope import Scope  # noqa: PLC0415  # as well

    if not re.fullmatch(r"[a-zA-Z0-9_-]+", version):
        raise typer.BadParameter(f"{version!r} is invalid; use letters, digits, - and _")
    settings = settings_of(data_dir)
    if switch and not yes and not sys.stdin.isatty():
        sys.exit(
            "tapewire: there is no terminal to ask before the switch; give --yes or --no-switch"
        )
    with reasons():
        kafka = find_kafka(settings, print_note)
    prefix = kafka.topic_prefix
    print_note(
        f"rebuild: {prefix}portfolio.returns is read from its beginning, and the results are "
        f"written to {prefix}{version}.risk.measures, {prefix}{version}.risk.alerts and so on"
    )
    question = (
        f"Let the running workers at {kafka.bootstrap_servers} continue from {version}? Clients "
        f"get the changes of {prefix}risk.measures and {prefix}risk.alerts."
    )
    terminal = Terminal(
        print_note if json else print_line,
        agrees=lambda: confirmed(question, yes=yes),
        reading=progress_bar("reading records"),
    )
    result = run(
        rebuild_risk(
            kafka.producer_settings(),
            version,
            settings.data_dir / "logs",
            terminal,
            switch=switch,
            scope=Scope(tenant, portfolio),
            env={"TAPEWIRE_VAR_LIMITS": kafka.var_limits},
        )
    )
    if json:
        print_json(result.as_json())
