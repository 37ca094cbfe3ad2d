"""`tapewire tenant`: finds what the system holds of a tenant, and erases it."""

from typing import Annotated

import typer

from cli.console import AsJson, DataDir, print_answer, print_note, reasons, run, settings_of
from cli.progress import working
from cli.target import find_kafka
from cli.tenant_erasure import erase as erase_tenant
from cli.tenant_files import with_models
from cli.tenant_lake import LakeErasure, erase_in_lake, find_in_lake
from cli.tenant_survey import survey

_HOURS_MAX = 24 * 365

tenant_cli = typer.Typer(
    no_args_is_help=True, help="Find what a system holds of a tenant, and erase it."
)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant, as tokens name it.")]


Lake = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Look into this lake instead of the log, such as delta:/srv/lake or "
        "iceberg:s3://bucket/prefix.",
    ),
]


@tenant_cli.callback()
def tenant() -> None:
    """Find what a system holds of a tenant, and erase it."""


@tenant_cli.command("find")
def find(
    tenant: Tenant,
    lake: Lake = None,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Count what the log holds of a tenant by topic, and say until when; or the tables of a lake.

    Reads all topics whole, also those of rebuilds: their keys, headers and, where these name no
    tenant, values. Dead letters count where the record that they are about was the tenant's.
    """
    if lake is not None:
        with reasons(), working("reading the lake"):
            print_answer(find_in_lake(lake, tenant), json=json)
        return
    settings = settings_of(data_dir)
    with reasons():
        kafka = find_kafka(settings, print_note).producer_settings()
    with working("reading all topics"):
        found = run(survey(kafka, tenant))
    print_answer(with_models(found.answer(), tenant, settings.data_dir), json=json)


@tenant_cli.command("erase")
def erase(
    tenant: Tenant,
    confirm: Annotated[
        str | None, typer.Option(metavar="TENANT", help="The tenant's name once more, to agree.")
    ] = None,
    dry_run: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--dry-run", help="Say what it would do, and write nothing.")
    ] = False,
    lake: Lake = None,
    keep_hours: Annotated[
        int,
        typer.Option(
            min=0,
            max=_HOURS_MAX,
            help="For how many hours earlier states of a lake's tables can still be read.",
        ),
    ] = 1,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Delete all rows of a tenant, and say what remains where, and until when.

    Stop processors, notifiers and workers first, and let nobody write for the tenant any more;
    start them when it is done, and restart the edges. It writes a tombstone for each key of the
    tenant: states, measures, limits, books, scenarios, jobs, dashboards and notification routes.
    Records that are kept for a time, or for ever, remain, and it says of each topic until when.
    After a crash, run it again.

    With --lake, it deletes the rows of the tenant from the tables of a lake, and nothing else.
    Run it again when the hours have passed for which earlier states can be read.
    """
    if lake is not None:
        erasure = LakeErasure(lake, tenant, confirm, keep_hours, dry_run)
        with reasons(), working("writing the lake"):
            print_answer(erase_in_lake(erasure), json=json)
        return
    settings = settings_of(data_dir)
    with reasons():
        kafka = find_kafka(settings, print_note).producer_settings()
    with working("reading all topics"):
        answer = run(erase_tenant(kafka, tenant, confirm, is_dry=dry_run))
    print_answer(with_models(answer, tenant, settings.data_dir), json=json)
