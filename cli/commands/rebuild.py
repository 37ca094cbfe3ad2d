"""`tapewire rebuild`: computes past measures and alerts again."""

import re
from typing import Annotated

import typer

from cli.console import DataDir, print_line, run, settings_of
from cli.rebuild import rebuild as rebuild_risk
from kafka_io.settings import ProducerSettings


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
    data_dir: DataDir = None,
) -> None:
    """Compute all measures and alerts again, from the beginning of the log.

    Use it after an upgrade of the processors, or a change of a method, window or default limit. A
    worker beside the running ones reads the whole log with the settings of this environment, which
    should be theirs. The command prints the differences; then the running workers continue from
    the result.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", version):
        raise typer.BadParameter(f"{version!r} is invalid; use letters, digits, - and _")
    settings = settings_of(data_dir)
    run(
        rebuild_risk(
            ProducerSettings(),
            version,
            settings.data_dir / "logs",
            print_line,
            switch=switch,
            env={"TAPEWIRE_VAR_LIMITS": settings.var_limits},
        )
    )
