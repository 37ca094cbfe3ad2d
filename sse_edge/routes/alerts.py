"""Open alerts, and their acknowledgement."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from kafka_io.clock import now_us
from schemas.events import AlertAck, EntityType, OpenAlert
from schemas.instants import to_rfc3339
from schemas.topics import RISK_ACKS
from sse_edge.caller import Scope
from sse_edge.errors import NoSuchThing
from sse_edge.http.dependencies import dated_rows_of, rows_of, subject_of
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import write
from sse_edge.routes.views import ViewsDep

_COMMENT_CHARS_MAX = 1_000
_CAUSE_CHARS_MAX = 256

router = APIRouter(prefix="/api/v1", tags=["risk"])


class Acknowledgement(BaseModel):
    """A person's acknowledgement of an alert."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    comment: Annotated[str, Field(max_length=_COMMENT_CHARS_MAX)] = ""
    """A remark, such as the action taken; every client of the alerts receives it."""
    cause: Annotated[str, Field(min_length=1, max_length=_CAUSE_CHARS_MAX)] | None = None
    """Why the limit was exceeded: `active`, since positions have changed, `passive`, since the
    market has moved, or another short text."""


@router.get("/alerts", summary="List the open alerts, newest first")
async def open_alerts(
    request: Request,
    views: ViewsDep,
    entity_id: Annotated[
        str | None, Query(max_length=256, description="Only the alerts of this portfolio or book.")
    ] = None,
) -> list[dict[str, object]]:
    """Each alert is shown after its last transition.

    `as_of` is the time of the data that caused the transition, `changed_at` that of its record.
    """
    found = [
        (alert, at_ms)
        for alert, at_ms in await dated_rows_of(request, views.open_alerts)
        if entity_id in (None, alert.entity_id)
    ]
    found.sort(key=lambda row: (row[0].event_time_us, row[0].alert_id), reverse=True)
    return [_shown(alert, at_ms) for alert, at_ms in found]


@router.post(
    "/alerts/{alert_id}/ack",
    dependencies=[require(Scope.ACK)],
    status_code=202,
    summary="Acknowledge an alert",
    responses={404: {"description": "There is no such alert, or it is closed."}},
)
async def acknowledge(
    request: Request,
    views: ViewsDep,
    alert_id: Annotated[str, Path(description="The alert's id.")],
    body: Acknowledgement | None = None,
) -> dict[str, str]:
    """Every client of the alerts receives the acknowledgement; the alert stays open."""
    alerts = await rows_of(request, views.open_alerts)
    alert = next((alert for alert in alerts if alert.alert_id == alert_id), None)
    if alert is None:
        raise NoSuchThing(
            f"there is no open alert {alert_id[:60]!r}; GET /api/v1/alerts lists the open ones"
        )
    ack = AlertAck(
        alert_id=alert_id,
        entity_id=alert.entity_id,
        by=subject_of(request),
        comment="" if body is None else body.comment,
        cause=None if body is None else body.cause,
        event_time_us=now_us(),
        entity_type=alert.entity_type,
    )
    is_book = alert.entity_type == EntityType.BOOK
    root = alert.entity_id.partition("/")[0]
    await write(request, ack, home=(RISK_ACKS, root) if is_book else None)
    return {"alert_id": alert_id, "status": "acknowledging"}


def _shown(alert: OpenAlert, changed_at_ms: int) -> dict[str, object]:
    shown: dict[str, object] = asdict(alert)
    shown["as_of"] = to_rfc3339(alert.event_time_us)
    shown["changed_at"] = to_rfc3339(changed_at_ms * 1000)
    del shown["event_time_us"], shown["tenant"]
    return shown
