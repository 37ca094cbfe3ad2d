"""Changes of limits, books and scenarios, and acknowledgements of alerts, each with its author.

The log keeps acknowledgements for their retention time, and of limits, books and scenarios at least
the last change of each. Tokens need the scope `admin`, and each tenant sees its own changes.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request

from schemas.errors import Refused
from schemas.events import AlertAck, Book, RiskLimits, Scenario
from schemas.gate import admit
from schemas.instants import to_rfc3339
from schemas.topics import RISK_ACKS, RISK_BOOKS, RISK_LIMITS, RISK_SCENARIOS, Topic
from sse_edge.caller import Scope
from sse_edge.delivery.node import Node
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.http.dependencies import NodeDep
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import may_read
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan

_LOOKED_BACK = 2_000
"""Records of a partition that are searched, at most."""
_TOPICS = (RISK_LIMITS, RISK_ACKS, RISK_BOOKS, RISK_SCENARIOS)

Limit = Annotated[int, Query(ge=1, le=1_000, description="The most changes.")]

router = APIRouter(prefix="/api/v1", tags=["risk"])


@router.get(
    "/audit",
    dependencies=[require(Scope.ADMIN)],
    summary="List who changed limits, books and scenarios and acknowledged alerts, newest first",
)
async def audit(request: Request, node: NodeDep, limit: Limit = 100) -> list[dict[str, object]]:
    """`by` is the `sub` of the token, null for a caller without one; `at` is the log's time."""
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


def _changes(record: Record) -> Iterator[dict[str, object]]:
    """Yield what a record says of a change; nothing for another record."""
    try:
        event = admit(record.value, RiskLimits, AlertAck, Book, Scenario)
    except Refused:
        return
    match event:
        case RiskLimits():
            what = "limits withdrawn" if not event.limits and not event.stale_after_s else "limits"
            thing, by, comment = event.portfolio_id, event.set_by, event.comment
        case AlertAck():
            what, thing, by, comment = "acknowledgement", event.alert_id, event.by, event.comment
        case Book():
            what = "book closed" if event.closed else "book"
            thing, by, comment = event.path, event.set_by, ""
        case Scenario() if record.partition.number == 0:  # the other partitions have copies
            what = "scenario withdrawn" if event.withdrawn else "scenario"
            thing, by, comment = event.name, event.set_by, event.comment
        case _:
            return
    yield {
        "what": what,
        "id": thing,
        "by": by,
        "tenant": record.tenant.decode(errors="replace") or None,
        "at": to_rfc3339(record.timestamp_ms * 1000),
        "comment": comment,
    }
