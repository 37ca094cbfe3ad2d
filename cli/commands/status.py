"""`tapewire status`, `doctor` and `upgrade`: how a system is, and what is wrong with it."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import doctor as checks, status as system_status, upgrade as upgrades
from cli.console import (
    AsJson,
    DataDir,
    print_json,
    print_line,
    print_lines,
    print_note,
    reasons,
    settings_of,
)
from cli.target import find_kafka
from cli.topics import list_topics
from infra.acls import PARTS


def status(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Show parts, edges, consumer groups with their lag, dead letters, and what writers write.

    Everything but the parts of `tapewire up` is read from Kafka.
    """
    with reasons():
        settings = settings_of(data_dir)
        kafka = find_kafka(settings, print_note)
        found = asyncio.run(system_status.read_status(kafka.producer_settings(), settings.data_dir))
    if json:
        print_json(system_status.as_json(found))
    else:
        print_lines(list(system_status.lines_of(found)))


def doctor(
    part: Annotated[
        str, typer.Option(help=f"Check the access of this part: one of {', '.join(PARTS)}.")
    ] = checks.OPERATOR,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Check what a system stands on, and say how to mend what is wrong; then the exit code is 1.

    Python, Java, the broker's jars, disk, ports, the keys of tokens, Kafka, access, topics, the
    schemas in the log, and clocks. Access is what Kafka allows the credentials of this environment,
    compared with what a part needs. Nothing is changed, and nothing need run.
    """
    if part not in PARTS:
        raise typer.BadParameter(f"{part} is none of {', '.join(PARTS)}", param_hint="--part")
    found: list[checks.Check] = []
    with reasons():
        for check in checks.examine(settings_of(data_dir), part):
            found.append(check)
            if not json:
                print_line(checks.line_of(check))
    if json:
        print_json([checks.as_json(check) for check in found])
    if any(check.result is checks.Result.WRONG for check in found):
        sys.exit(1)


def upgrade(
    check: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--check", help="Say what this version would change.")
    ] = False,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Say what this version would change in the log of a system that another version runs.

    It compares schemas, topics and the versions of edges and workers, and changes nothing. The
    exit code is 1 if the log is of a newer version.
    """
    if not check:
        raise typer.BadParameter(
            "give --check; the software itself is upgraded by pip, an image or `make up`"
        )
    with reasons():
        settings = settings_of(data_dir)
        kafka = find_kafka(settings, print_note).producer_settings()
        topics: Sequence[dict[str, object]] = list_topics(kafka)
        found = upgrades.check(
            asyncio.run(system_status.read_status(kafka, settings.data_dir, is_partial=True)),
            topics,
        )
    if json:
        print_json(upgrades.as_json(found))
    else:
        print_lines(list(upgrades.lines_of(found)))
    if not found.is_possible:
        sys.exit(1)
