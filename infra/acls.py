"""The access to Kafka that each part needs, and no more: the source of the documentation's table.

A part has a principal of its own. The rows say what it reads and writes; `grants_of` turns a row
into ACLs, `rights_of` these into what a client adds, and `commands_of` into commands for Kafka's
own tool. READ, WRITE and ALTER of a topic include DESCRIBE.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from kafka_io.topic_admin import Right
from kafka_io.topic_checks import INPUTS, STATES
from schemas.topics import (
    AGENT_COMMANDS,
    AGENT_EVENTS,
    BACKTEST_BARS,
    BACKTEST_COMMANDS,
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    CATALOGUE,
    CHAT_MESSAGES,
    DASHBOARD_TALLIES,
    DASHBOARD_UPDATES,
    DEAD_LETTERS,
    EDGE_NODES,
    EDGE_RENEWALS,
    MARKET_CANDLES,
    MARKET_FORMING,
    MARKET_TRADES,
    NOTIFICATION_DELIVERIES,
    NOTIFICATION_QUEUES,
    NOTIFICATION_REQUESTS,
    NOTIFICATION_ROUTES,
    OPERATOR_ACTIONS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_SERIES,
    RISK_STATE,
    RISK_WANTED,
    TOPIC_GROWTHS,
    TRAINING_COMMANDS,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    USER_UPDATES,
    Topic,
    has_rows,
)

_DIGITS = "0123456789"


class Resource(Enum):
    """The kinds of things that ACLs are about, by the options of `kafka-acls.sh`."""

    TOPIC = "--topic"
    GROUP = "--group"
    TRANSACTIONAL_ID = "--transactional-id"


class Operation(Enum):
    """The operations that ACLs allow, as `kafka-acls.sh` spells them."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    ALTER = "Alter"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"
    ALTER_CONFIGS = "AlterConfigs"


class Grant(NamedTuple):
    """One ACL, for one principal and every host."""

    resource: Resource
    name: str
    operation: Operation
    is_prefix: bool = False
    """Whether it is about every name that begins so."""


@dataclass(frozen=True, slots=True)
class Access:
    """The access that a part needs."""

    purpose: str
    reads: Sequence[Topic] = ()
    writes: Sequence[Topic] = ()
    creates: Sequence[Topic] = ()
    alters: Sequence[Topic] = ()
    """The topics that get partitions."""
    configures: Sequence[Topic] = ()
    """The topics whose settings it changes."""
    checks: bool = False
    """Whether it compares the settings of its topics with the catalogue."""
    group: str | None = None
    """The consumer group that it joins or reads the offsets of, without the prefix of topics."""
    watches: Sequence[str] = ()
    """Other groups whose members and offsets it looks at."""
    transactions: bool = False
    """Whether it writes in transactions, under ids that begin with the group's name."""
    fences: Sequence[str] = ()
    """Other groups under whose ids it writes in transactions."""
    rebuilds: str = ""
    """Whether it reads the topics of a rebuild ("reads"), or makes and writes them ("writes")."""


_MEASURED = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED)
"""The inputs that portfolios are measured by; they grow, and are forwarded after that."""
_STATES = tuple(
    topic for topic in CATALOGUE if topic.name in STATES and topic != NOTIFICATION_QUEUES
)
_GROUP = "tapewire"
_COMMANDS = (TRAINING_COMMANDS, BACKTEST_COMMANDS, AGENT_COMMANDS)
_REKEYED = (
    *_STATES,
    *_COMMANDS,
    BACKTEST_EVENTS,
    DASHBOARD_TALLIES,
    MARKET_TRADES,
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_SERIES,
    RISK_WANTED,
    TRAINING_EVENTS,
)
"""The topics in which records of tenants get other keys."""
_PROCESSOR = Access(
    "`python -m stream_processors`: measures, judges and counts",
    reads=(
        *_MEASURED,
        *_STATES,
        BACKTEST_EVENTS,
        DASHBOARD_TALLIES,
        MARKET_TRADES,
        RISK_ALERTS,
        RISK_BOOKS,
        RISK_REBUILDS,
        RISK_SCENARIOS,
        RISK_SERIES,
        TOPIC_GROWTHS,
        TRAINING_EVENTS,
    ),
    writes=(
        *_MEASURED,
        *_STATES,
        DASHBOARD_TALLIES,
        DASHBOARD_UPDATES,
        DEAD_LETTERS,
        MARKET_CANDLES,
        RISK_ALERTS,
        RISK_BOOK_RISKS,
        RISK_HISTORY,
        RISK_MEASURES,
        RISK_OPEN,
        RISK_SERIES,
    ),
    checks=True,
    group=_GROUP,
    transactions=True,
    rebuilds="reads",
)


def _worker(purpose: str, commands: Topic, events: Topic, *others: Topic) -> Access:
    """Return the access of a worker of commands, which writes events and dead letters."""
    written = tuple(topic for topic in others if topic is BACKTEST_BARS)
    read = tuple(topic for topic in others if topic not in written)
    return Access(
        purpose,
        reads=(commands, events, *read),
        writes=(events, *written, DEAD_LETTERS),
        group=f"{_GROUP}-{commands.name}",
        transactions=True,
    )


PARTS: Mapping[str, Access] = {
    "edge": Access(
        "`python -m sse_edge`: serves streams, and writes what clients post",
        reads=(
            AGENT_EVENTS,
            BACKTEST_BARS,
            BACKTEST_EVENTS,
            BACKTEST_JOBS,
            CHAT_MESSAGES,
            DASHBOARD_UPDATES,
            EDGE_NODES,
            EDGE_RENEWALS,
            MARKET_FORMING,
            NOTIFICATION_DELIVERIES,
            NOTIFICATION_ROUTES,
            OPERATOR_ACTIONS,
            PORTFOLIO_RETURNS,
            RISK_ACKS,
            RISK_ALERTS,
            RISK_BOOK_RISKS,
            RISK_BOOKS,
            RISK_HISTORY,
            RISK_LIMITS,
            RISK_MEASURES,
            RISK_OPEN,
            RISK_REBUILDS,
            RISK_SCENARIOS,
            TOPIC_GROWTHS,
            TRAINING_EVENTS,
            TRAINING_TASKS,
            USER_UPDATES,
        ),
        writes=(
            AGENT_COMMANDS,
            AGENT_EVENTS,
            BACKTEST_COMMANDS,
            BACKTEST_EVENTS,
            CHAT_MESSAGES,
            EDGE_NODES,
            EDGE_RENEWALS,
            NOTIFICATION_REQUESTS,
            NOTIFICATION_ROUTES,
            OPERATOR_ACTIONS,
            RISK_ACKS,
            RISK_BOOKS,
            RISK_LIMITS,
            RISK_SCENARIOS,
            TRAINING_COMMANDS,
            TRAINING_EVENTS,
        ),
        checks=True,
    ),
    "processor": _PROCESSOR,
    "trainer": _worker(
        "`python -m producers trainer`: trains models", TRAINING_COMMANDS, TRAINING_EVENTS
    ),
    "backtester": _worker(
        "`python -m producers backtester`: runs backtests",
        BACKTEST_COMMANDS,
        BACKTEST_EVENTS,
        MARKET_CANDLES,
        MARKET_FORMING,
        BACKTEST_BARS,
    ),
    "agents": _worker(
        "`python -m producers orchestrator`: answers messages",
        AGENT_COMMANDS,
        AGENT_EVENTS,
        RISK_MEASURES,
    ),
    "notifier": Access(
        "`python -m stream_processors.notifications`: sends alerts and ends of runs",
        reads=(
            BACKTEST_EVENTS,
            NOTIFICATION_QUEUES,
            NOTIFICATION_REQUESTS,
            NOTIFICATION_ROUTES,
            PROCESSOR_POSITIONS,
            RISK_ALERTS,
            TOPIC_GROWTHS,
            TRAINING_EVENTS,
        ),
        writes=(
            DEAD_LETTERS,
            NOTIFICATION_DELIVERIES,
            NOTIFICATION_QUEUES,
            NOTIFICATION_REQUESTS,
            PROCESSOR_POSITIONS,
        ),
        checks=True,
        group=f"{_GROUP}-notifier",
        transactions=True,
    ),
    "market": Access(
        "`python -m producers market`: writes trades",
        reads=(MARKET_FORMING,),
        writes=(MARKET_TRADES,),
    ),
    "demo": Access(
        "`python -m producers`: writes the demo's returns, backtests and trainings",
        reads=(PORTFOLIO_RETURNS, RISK_STATE),
        writes=(BACKTEST_EVENTS, PORTFOLIO_RETURNS, TRAINING_EVENTS),
    ),
    "reporter": Access(
        "a program of yours with the reporter API",
        writes=(
            BACKTEST_EVENTS,
            DASHBOARD_UPDATES,
            PORTFOLIO_RETURNS,
            RISK_ALERTS,
            TRAINING_EVENTS,
            USER_UPDATES,
        ),
    ),
    "provision": Access(
        "`tapewire topics create`: makes the topics",
        creates=CATALOGUE,
        checks=True,
    ),
    "rebuild": Access(
        "`tapewire rebuild`, with its workers",
        reads=(
            *_MEASURED,
            PROCESSOR_POSITIONS,
            RISK_SCENARIOS,
            RISK_ALERTS,
            RISK_BOOK_RISKS,
            RISK_BOOK_STATE,
            RISK_BOOKS,
            RISK_MEASURES,
            RISK_SERIES,
            RISK_STATE,
            TOPIC_GROWTHS,
        ),
        writes=(RISK_REBUILDS,),
        checks=True,
        group=_GROUP,
        rebuilds="writes",
    ),
    "grow": Access(
        "`tapewire topics grow`: does the work of processors meanwhile",
        reads=_PROCESSOR.reads,
        writes=(*_PROCESSOR.writes, TOPIC_GROWTHS),
        alters=(*_MEASURED, RISK_SCENARIOS, RISK_REBUILDS, RISK_STATE, PROCESSOR_POSITIONS),
        checks=True,
        group=_GROUP,
        transactions=True,
    ),
    "rekey": Access(
        "`tapewire topics rekey`: moves the records of tenants",
        reads=(*_REKEYED, TOPIC_GROWTHS),
        writes=(*_REKEYED, OPERATOR_ACTIONS),
        group=_GROUP,
        watches=tuple(f"{_GROUP}-{topic.name}" for topic in _COMMANDS),
        transactions=True,
    ),
    "erase": Access(
        "`tapewire tenant`: finds the records of a tenant, and deletes its rows",
        reads=CATALOGUE,
        writes=(*(topic for topic in CATALOGUE if has_rows(topic)), OPERATOR_ACTIONS),
        checks=True,
        group=_GROUP,
        watches=(f"{_GROUP}-notifier", *(f"{_GROUP}-{topic.name}" for topic in _COMMANDS)),
        transactions=True,
        fences=(f"{_GROUP}-notifier",),
        rebuilds="writes",
    ),
    "retention": Access(
        "`tapewire topics retention`: changes for how long topics keep their records",
        writes=(OPERATOR_ACTIONS,),
        configures=CATALOGUE,
        checks=True,
    ),
    "replay": Access(
        "`tapewire risk replay` and `replay-book`: judge the past again",
        reads=(
            PORTFOLIO_RETURNS,
            RISK_ACKS,
            RISK_BOOK_STATE,
            RISK_BOOKS,
            RISK_LIMITS,
            RISK_SCENARIOS,
            RISK_SERIES,
        ),
    ),
    "operator": Access(
        "`tapewire doctor`, `status`, `topics`, `dead-letters` and `upgrade`",
        reads=CATALOGUE,
        writes=(
            *(topic for topic in CATALOGUE if topic.name in INPUTS),
            *_COMMANDS,
            OPERATOR_ACTIONS,
        ),
        checks=True,
        group=f"{_GROUP}-operator",
        watches=(
            _GROUP,
            f"{_GROUP}-notifier",
            *(f"{_GROUP}-{topic.name}" for topic in _COMMANDS),
        ),
        transactions=True,
    ),
}
"""The parts and commands by name. The other commands ask an edge, and need no access."""


def grants_of(part: str, *, prefix: str = "", version: str | None = None) -> list[Grant]:
    """Return the ACLs that a part needs.

    Args:
        part: the part's name in `PARTS`.
        prefix: the prefix of the system's topics.
        version: the name of a rebuild; None if there is none.
    """
    return sorted(set(_grants(PARTS[part], prefix, version)), key=_order)


def _grants(access: Access, prefix: str, version: str | None) -> Iterator[Grant]:
    for topics, operation in (
        (access.reads, Operation.READ),
        (access.writes, Operation.WRITE),
        (access.alters, Operation.ALTER),
        (access.configures, Operation.ALTER_CONFIGS),
        (access.creates, Operation.CREATE),
        (access.creates, Operation.DESCRIBE),
    ):
        for topic in topics:
            yield Grant(Resource.TOPIC, prefix + topic.name, operation)
    if access.checks:
        for topic in (*access.reads, *access.writes, *access.creates, *access.configures):
            yield Grant(Resource.TOPIC, prefix + topic.name, Operation.DESCRIBE_CONFIGS)
    if access.group is not None:
        group = prefix + access.group
        yield Grant(Resource.GROUP, group, Operation.READ)
        if access.transactions:
            yield from _of_transactions(group)
    for name in access.fences:
        yield from _of_transactions(prefix + name)
    for name in access.watches:
        yield Grant(Resource.GROUP, prefix + name, Operation.DESCRIBE)
    if version is not None and access.rebuilds:
        yield from _of_rebuild(f"{prefix}{version}.", access.rebuilds)


def _of_transactions(group: str) -> Iterator[Grant]:
    """Yield the ACLs of the ids `GROUP-NUMBER`; `GROUP-` alone would be the start of others."""
    for digit in _DIGITS:
        yield Grant(Resource.TRANSACTIONAL_ID, f"{group}-{digit}", Operation.WRITE, is_prefix=True)


def _of_rebuild(prefix: str, use: str) -> Iterator[Grant]:
    operations = [Operation.READ]
    if use == "writes":
        operations += [Operation.WRITE, Operation.CREATE, Operation.DESCRIBE_CONFIGS]
        for group in (_GROUP, f"{_GROUP}-books"):
            yield Grant(Resource.GROUP, f"{prefix}{group}", Operation.READ)
            yield from _of_transactions(f"{prefix}{group}")
    else:
        yield Grant(Resource.GROUP, f"{prefix}{_GROUP}", Operation.DESCRIBE)
    for operation in operations:
        yield Grant(Resource.TOPIC, prefix, operation, is_prefix=True)


def _order(grant: Grant) -> tuple[str, bool, str, str]:
    return (grant.resource.value, grant.is_prefix, grant.name, grant.operation.value)


def rights_of(grants: Sequence[Grant]) -> list[Right]:
    """Return ACLs as `TopicAdmin.allow` adds them."""
    return [
        Right(grant.resource.name, grant.name, grant.operation.name, grant.is_prefix)
        for grant in grants
    ]


def commands_of(part: str, principal: str, grants: Sequence[Grant], servers: str) -> list[str]:
    """Return commands for Kafka's `kafka-acls.sh` that add a part's ACLs.

    Args:
        part: the part's name, for a comment.
        principal: the part's principal, as in `User:edge`.
        grants: the ACLs.
        servers: Kafka's addresses.
    """
    operations: dict[tuple[Resource, str, bool], list[str]] = {}
    for grant in grants:
        where = (grant.resource, grant.name, grant.is_prefix)
        operations.setdefault(where, []).append(grant.operation.value)

    def kind(where: tuple[Resource, str, bool]) -> tuple[str, bool, list[str]]:
        return where[0].value, where[2], operations[where]

    lines = [f"# {part}: {PARTS[part].purpose}"]
    for (option, is_prefix, allowed), group in groupby(sorted(operations, key=kind), key=kind):
        names = " ".join(f"{option} {name}" for _, name, _ in group)
        pattern = "--resource-pattern-type prefixed " if is_prefix else ""
        lines.append(
            f"kafka-acls.sh --bootstrap-server {servers} --add --allow-principal '{principal}' "
            + "".join(f"--operation {operation} " for operation in allowed)
            + pattern
            + names
        )
    return lines
