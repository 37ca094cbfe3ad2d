"""Changes of limits, books, scenarios and notification routes, acknowledgements, and commands.

Each names its author and from where it was requested. The log keeps acknowledgements and switches
to rebuilt states for their retention time, and of limits, books, scenarios, notification routes and
the growth of topics at least the last change of each. What operators do with dead letters,
connections and keys is kept for ever. `tapewire reset` deletes the log, and the list with it.
Tokens need the scope `admin`, and each tenant sees its own changes; what operators change is of no
tenant.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request

from schemas.errors import Refused
from schemas.events import (
    AlertAck,
    Book,
    NotificationRoute,
    OperatorAction,
    OperatorActionKind,
    RebuildDone,
    RiskLimits,
    Scenario,
    TopicGrowth,
)
from schemas.gate import admit
from schemas.instants import to_rfc3339
from schemas.topics import OPERATOR_ACTIONS, RISK_REBUILDS, TOPIC_GROWTHS, Topic
from sse_edge.caller import Scope
from sse_edge.delivery.node import Node
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.http.dependencies import NodeDep
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import AUDITED, may_read
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan

_LOOKED_BACK = 2_000
"""Records of a partition that are searched, at most."""
_TOPICS = (*AUDITED, RISK_REBUILDS, TOPIC_GROWTHS)
_ACTIONS: Mapping[str, str] = {
    OperatorActionKind.REDRIVE: "dead letter re-driven",
    OperatorActionKind.DISCARD: "dead letter discarded",
    OperatorActionKind.CLOSE_CONNECTION: "connection closed",
    OperatorActionKind.REKEY: "keys changed",
    OperatorActionKind.ERASE_TENANT: "tenant erased",
    OperatorActionKind.CHANGE_RETENTION: "retention changed",
}
_ORIGIN_CHARS_MAX = 320

Limit = Annotated[int, Query(ge=1, le=1_000, description="The most changes.")]

router = APIRouter(prefix="/api/v1", tags=["risk"])


@router.get(
    "/audit",
    dependencies=[require(Scope.ADMIN)],
    summary="List who changed what, and from where, newest first",
)
async def audit(request: Request, node: NodeDep, limit: Limit = 100) -> list[dict[str, object]]:
    """Changes of what tenants set, acknowledgements, and what operators' commands did.

    `by` is the `sub` of the token, null for a caller without one; `origin` is the address of the
    caller, behind trusted proxies, null if the log does not have it; `at` is the log's time. Of an
    operator's command, they are the user and the host.
    """
    found: list[Record] = []
    for topic in _TOPICS:
        found += [
            record for record in await _last_records(node, topic) if may_read(request, record)
        ]
    found.sort(key=lambda record: record.timestamp_ms, reverse=True)
    return [change for record in found for change in _changes(record)][:limit]


async def _last_records(node: Node, topic: Topic) -> list[Record]:
    """Return the newest records of a topic.

    Raises:
        LogUnavailable: Kafka cannot be read.
    """
    name = node.settings.topic_prefix + topic.name
    info = (await node.log.describe([name])).get(name)
    if info is None and topic is OPERATOR_ACTIONS:
        return []  # edges are upgraded before it is made
    if info is None:
        raise LogUnavailable(f"there is no topic {name}")
    partitions = [Partition(name, number) for number in range(info.partitions)]
    begins = await node.log.begin_offsets(partitions)
    found: list[Record] = []
    for where, end in (await node.log.end_offsets(partitions)).items():
        try:
            async for batch in scan(node.log, where, max(begins[where], end - _LOOKED_BACK), end):
                found += batch.records
        except OffsetOutOfRange:
            continue  # the records expire just now
    return found


class _Change(NamedTuple):
    """A change, and its author."""

    what: str
    id: str
    by: str | None
    comment: str
    origin: str


def _changes(record: Record) -> Iterator[dict[str, object]]:
    """Yield what a record says of a change; nothing for another record."""
    change = _change(record)
    if change is not None:
        yield {
            **change._asdict(),
            "origin": change.origin or None,
            "tenant": record.tenant.decode(errors="replace") or None,
            "at": to_rfc3339(record.timestamp_ms * 1000),
        }


def _change(record: Record) -> _Change | None:
    try:
        event = admit(record.value)
    except Refused:
        return None
    is_first = record.partition.number == 0  # the other partitions have copies
    origin = record.origin.decode(errors="replace")[:_ORIGIN_CHARS_MAX]
    user, _, host = origin.rpartition("@")
    change: _Change | None = None
    match event:
        case RiskLimits():
            is_withdrawn = not event.limits and not event.stale_after_s
            what = "limits withdrawn" if is_withdrawn else "limits"
            change = _Change(what, event.portfolio_id, event.set_by, event.comment, origin)
        case AlertAck():
            what = "acknowledgement"
            change = _Change(what, event.alert_id, event.by, event.comment, origin)
        case Book():
            what = "book closed" if event.closed else "book"
            change = _Change(what, event.path, event.set_by, "", origin)
        case Scenario() if is_first:
            what = "scenario withdrawn" if event.withdrawn else "scenario"
            change = _Change(what, event.name, event.set_by, event.comment, origin)
        case NotificationRoute():
            what = "notification route closed" if event.closed else "notification route"
            change = _Change(what, event.name, event.set_by, "", origin)
        case RebuildDone() if is_first:
            change = _Change("rebuild", event.version, user or None, "", host)
        case TopicGrowth(partition=None):
            what = "topics grown" if event.is_done else "topics growing"
            numbers = f"{event.old_count} to {event.new_count} partitions"
            change = _Change(what, numbers, user or None, "", host)
        case OperatorAction():
            what = _ACTIONS.get(event.action, event.action)
            is_command = event.by is None and bool(user)
            by, place = (user, host) if is_command else (event.by, origin)
            change = _Change(what, event.subject, by, event.comment, place)
        case _:
            pass
    return change
