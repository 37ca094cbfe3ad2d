"""`tapewire topics`: lists, reads and changes topics, and prints who may use them."""

from contextlib import suppress
from json import dumps
from typing import Annotated

import typer

from cli.answers import Answer
from cli.console import (
    AsJson,
    DataDir,
    Yes,
    confirmed,
    print_answer,
    print_json,
    print_line,
    print_lines,
    print_note,
    reasons,
    run,
    settings_of,
)
from cli.moments import milliseconds_of
from cli.progress import working
from cli.target import KafkaTarget, find_kafka
from cli.topic_retention import change_retention, find_change, list_retention
from cli.topics import (
    Filter,
    describe_topic,
    line_of_record,
    lines_of_list,
    lines_of_topic,
    list_topics,
    parse_where,
    print_all,
    tail as tail_topic,
    topic_named,
)
from infra.acls import PARTS, commands_of, grants_of, rights_of
from infra.topics import provision
from kafka_io.topic_admin import TopicAdmin

_COUNT_MAX = 10_000
_RECORDS_MAX = 100_000
_SETTLE_S = 330.0
"""Kafka's producers ask for new partitions every five minutes by default."""

topics_cli = typer.Typer(
    no_args_is_help=True, help="Look into the topics of a system, and change them."
)

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic, such as risk.alerts.")]


@topics_cli.callback()
def topics() -> None:
    """Look into the topics of a system, and change them."""


@topics_cli.command("list")
def list_(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """List all topics, with what differs from the catalogue."""
    with reasons():
        rows = list_topics(find_kafka(settings_of(data_dir), print_note).producer_settings())
    if json:
        print_json(rows)
    else:
        print_lines(lines_of_list(rows))


@topics_cli.command("describe")
def describe(
    topic: Topic,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Describe a topic: its records, settings, partitions, offsets and replicas."""
    with reasons():
        kafka = find_kafka(settings_of(data_dir), print_note).producer_settings()
        row = describe_topic(kafka, topic_named(topic, kafka.topic_prefix))
    if json:
        print_json(row)
    else:
        print_lines(lines_of_topic(row))


@topics_cli.command("tail")
def tail(
    topic: Topic,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Records since then: @-1h, @-30m, @-2d, or a time such as 2026-11-30T08:00:00Z.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Only records of this key: an id, or TENANT/ID.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Only records with this value, as in returns.portfolio_id=p-1 or "
            "headers.tenant=acme; repeat it for several fields.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=_RECORDS_MAX, help="The most records of the past.")
    ] = 20,
    follow: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--follow", "-f", help="Wait for further records, until Ctrl-C.")
    ] = False,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Print the newest records of a topic, decoded; with --json, an object a line."""
    since_ms = milliseconds_of(since, "--from")

    def show(found: dict[str, object]) -> None:
        print_line(dumps(found) if json else line_of_record(found))

    with reasons():
        chosen = Filter(key, parse_where(where or ()))
        kafka = find_kafka(settings_of(data_dir), print_note).producer_settings()
        records = tail_topic(
            kafka,
            topic_named(topic, kafka.topic_prefix),
            chosen,
            since_ms=since_ms,
            count=count,
            follow=follow,
        )
    with suppress(KeyboardInterrupt):
        run(print_all(records, show))


@topics_cli.command("create")
def create(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Create the topics that are missing, as `tapewire up` does, and start nothing.

    Topics that exist are left as they are; one that differs from the catalogue is named.
    """
    with reasons():
        kafka = find_kafka(settings_of(data_dir), print_note)
        made = provision(kafka.bootstrap_servers, prefix=kafka.topic_prefix, warn=print_note)
    text = f"{len(made)} topics were created" if made else "all topics exist"
    print_answer(Answer({"created": list(made)}, [text]), json=json)


@topics_cli.command("acls")
def acls(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...", help=f"The parts, of {', '.join(PARTS)}; all if none is named."
        ),
    ] = None,
    principal: Annotated[
        str | None,
        typer.Option(help="The principal of the part; by default User: and the part's name."),
    ] = None,
    rebuild: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Add the access to a rebuild's topics.")
    ] = None,
    apply: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option("--apply", help="Add the ACLs to Kafka, as a user who may."),
    ] = False,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Print the commands that give each part the access to Kafka that it needs, and no more.

    The names have TAPEWIRE_TOPIC_PREFIX before them. Without --apply, Kafka is not asked for
    anything; with it, ACLs that are there stay.
    """
    settings = settings_of(data_dir)
    chosen = parts or list(PARTS)
    for part in chosen:
        if part not in PARTS:
            raise typer.BadParameter(f"{part} is none of {', '.join(PARTS)}", param_hint="PART")
    if principal is not None and len(chosen) > 1:
        raise typer.BadParameter("name one part with it", param_hint="--principal")
    servers = settings.bootstrap_servers or "localhost:9092"
    admin = None
    if apply:
        with reasons():
            admin = TopicAdmin(find_kafka(settings, print_note).bootstrap_servers)
    document, lines = [], []
    for part in chosen:
        user = principal or f"User:{part}"
        grants = grants_of(part, prefix=settings.topic_prefix, version=rebuild)
        if admin is None:
            lines += commands_of(part, user, grants, servers)
        else:
            with reasons():
                admin.allow(user, rights_of(grants))
            lines.append(f"{user} has the {len(grants)} ACLs of the part {part}")
        document += [
            {
                "part": part,
                "principal": user,
                "resource": grant.resource.name.lower(),
                "name": grant.name,
                "pattern": "prefixed" if grant.is_prefix else "literal",
                "operation": grant.operation.name.lower(),
            }
            for grant in grants
        ]
    print_answer(Answer(document, lines), json=json)


@topics_cli.command("grow")
def grow(
    count: Annotated[
        int,
        typer.Argument(
            metavar="COUNT",
            min=1,
            max=_COUNT_MAX,
            help="The partitions that each topic will have, a multiple of those that it has.",
        ),
    ],
    settle: Annotated[
        float,
        typer.Option(
            min=0,
            help="The seconds after which every producer knows new partitions: more than the "
            "longest metadata.max.age.ms of your producers. Tapewire's own take 10 seconds.",
        ),
    ] = _SETTLE_S,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Give the topics of portfolios more partitions, and move the states of portfolios.

    Stop all processors first, and start them when it is done; producers and edges keep running.
    The command measures returns itself while producers learn of the new partitions, so it needs
    the processors' environment. After a crash, run it again with the same number. With --json, the
    progress goes to the standard error.
    """
    from cli.topic_growth import grow as grow_topics  # noqa: PLC0415  # it loads SciPy
    from stream_processors.settings import ProcessorSettings  # noqa: PLC0415  # as well

    with reasons():
        kafka = find_kafka(settings_of(data_dir), print_note)
    settings = ProcessorSettings().model_copy(update=_place_of(kafka))
    with working(f"growing topics to {count} partitions, at least {settle:g} s"):
        run(grow_topics(settings, count, settle, print_note if json else print_line))
    if json:
        print_json({"grown": True, "partitions": count})


@topics_cli.command("retention")
def retention(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", help="The topic to change, such as risk.alerts."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Argument(metavar="TIME", help="As in 30m, 12h, 90d; or for-ever, or default."),
    ] = None,
    yes: Yes = False,  # noqa: FBT002  # a flag of the command line
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """List for how long topics keep their records; with TOPIC and TIME, change it for one.

    The topic keeps what is set here: `tapewire up` and `tapewire topics create` change no topic
    that exists. Topics of rows, such as risk.measures, keep the newest record of each key for ever.
    """
    if (topic is None) is not (keep is None):
        raise typer.BadParameter("name a topic and a time, or neither", param_hint="TIME")
    with reasons():
        kafka = find_kafka(settings_of(data_dir), print_note).producer_settings()
        if topic is None or keep is None:
            answer = list_retention(kafka)
        else:
            change = find_change(kafka, topic_named(topic, kafka.topic_prefix), keep)
            if change.is_shorter and not confirmed(change.question, yes=yes):
                raise typer.Exit(1)
            answer = run(change_retention(kafka, change))
    print_answer(answer, json=json)


@topics_cli.command("rekey")
def rekey(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Give the records of tenants the keys that name them, in the log of an earlier release.

    Earlier releases named a tenant in a header only. Stop all processors and producers first, and
    start them when it is done; edges keep running. Records without a tenant are left as they are.
    Those that the processors had not read yet are copied, and become dead letters under their old
    keys. After a crash, run it again. With --json, the progress goes to the standard error.
    """
    from cli.topic_keys import rekey as rekey_topics  # noqa: PLC0415  # it loads SciPy
    from stream_processors.settings import ProcessorSettings  # noqa: PLC0415  # as well

    with reasons():
        kafka = find_kafka(settings_of(data_dir), print_note)
    settings = ProcessorSettings().model_copy(update=_place_of(kafka))
    with working("moving the records of tenants"):
        run(rekey_topics(settings, print_note if json else print_line))
    if json:
        print_json({"rekeyed": True})


def _place_of(kafka: KafkaTarget) -> dict[str, str]:
    return {"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": kafka.topic_prefix}
