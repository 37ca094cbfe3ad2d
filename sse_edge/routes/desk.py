"""What a risk desk does over HTTP: set limits, see which alerts are open, deal with one.

Both are events. A processor judges by new limits at once, and tells everybody of an acknowledgement
as a step of the alert; the log says who did what, and when.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from kafka_io.clock import now_us
from schemas.events import AlertAck, OpenAlert, Record, RiskLimit, RiskLimits
from schemas.instants import to_rfc3339
from sse_edge.cache.table_view import TableView
from sse_edge.errors import LogUnavailable, NoSuchThing, Unavailable
from sse_edge.http.stream_response import caller_of, write
from sse_edge.routes.views import Views

_COMMENT_CHARS_MAX = 1_000

router = APIRouter(prefix="/api/v1", tags=["risk"])

S = TypeVar("S", bound=Record)

PortfolioId = Annotated[str, Path(min_length=1, max_length=256)]
Comment = Annotated[str, Field(max_length=_COMMENT_CHARS_MAX)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Times = Annotated[int, Field(ge=1, le=1_000)]


class Metric(StrEnum):
    """What a limit can be of: value at risk, or expected shortfall, one period ahead."""

    VAR_95 = "var_95"
    ES_95 = "es_95"
    VAR_99 = "var_99"
    ES_99 = "es_99"


class Limit(BaseModel):
    """What one metric may be, as a fraction of net asset value."""

    model_config = ConfigDict(extra="forbid")

    metric: Metric = Metric.VAR_95
    limit: _Positive
    hysteresis: Annotated[float, Field(ge=0, lt=1)] = 0.1
    warn_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    critical_ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    raise_after: _Times = 1
    clear_after: _Times = 1


class Limits(BaseModel):
    """All limits of a portfolio; with none, the processors' defaults."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "limits": [
                        {"metric": "var_95", "limit": 0.04, "warn_ratio": 0.8},
                        {"metric": "es_95", "limit": 0.06},
                    ],
                    "stale_after_s": 3600,
                    "comment": "until the end of the quarter",
                }
            ]
        },
    )

    limits: Annotated[list[Limit], Field(max_length=len(Metric))]
    stale_after_s: _Positive | None = None
    comment: Comment = ""

    @field_validator("limits")
    @classmethod
    def _once_each(cls, limits: list[Limit]) -> list[Limit]:
        for metric, count in Counter(one.metric for one in limits).items():
            if count > 1:
                raise ValueError(f"there are two limits of {metric}; give one")
        return limits


class Acknowledgement(BaseModel):
    """That somebody deals with an alert."""

    model_config = ConfigDict(extra="forbid")

    comment: Comment = ""


@router.put(
    "/limits/{portfolio_id}",
    summary="Set a portfolio's limits",
    responses={503: {"description": "No broker."}},
)
async def set_limits(
    request: Request, portfolio_id: PortfolioId, wanted: Limits
) -> dict[str, object]:
    """In place of all that there were; processors judge by them at once."""
    limits = _limits(request, portfolio_id, wanted)
    await write(request, limits)
    return _shown(limits)


@router.delete("/limits/{portfolio_id}", summary="Go back to the default limits")
async def withdraw_limits(request: Request, portfolio_id: PortfolioId) -> dict[str, object]:
    """Processors judge by their defaults again, at once."""
    limits = _limits(request, portfolio_id, Limits(limits=[]))
    await write(request, limits)
    return _shown(limits)


@router.get("/limits", summary="All limits that were set")
async def all_limits(request: Request) -> list[dict[str, object]]:
    """By portfolio."""
    views: Views = request.app.state.views
    found = [one for one in await all_of(request, views.limits) if one.limits or one.stale_after_s]
    return [_shown(one) for one in sorted(found, key=lambda one: one.portfolio_id)]


@router.get("/limits/{portfolio_id}", summary="A portfolio's limits")
async def limits_of(request: Request, portfolio_id: PortfolioId) -> dict[str, object]:
    """Those that were set last; none where the defaults hold."""
    views: Views = request.app.state.views
    for one in await all_of(request, views.limits):
        if one.portfolio_id == portfolio_id:
            return _shown(one)
    raise NoSuchThing(
        f"no limits were set for {portfolio_id[:60]!r}; the processors' defaults hold"
    )


@router.get("/alerts", summary="Alerts that are open, the newest first")
async def open_alerts(
    request: Request, entity_id: Annotated[str | None, Query(max_length=256)] = None
) -> list[dict[str, object]]:
    """Each after its last step; of one portfolio, or of all."""
    views: Views = request.app.state.views
    found = [
        one
        for one in await all_of(request, views.open_alerts)
        if entity_id in (None, one.entity_id)
    ]
    newest_first = sorted(found, key=lambda one: (one.event_time_us, one.alert_id), reverse=True)
    return [_worded(one) for one in newest_first]


@router.post(
    "/alerts/{alert_id}/ack",
    status_code=202,
    summary="Say that somebody deals with an alert",
    responses={404: {"description": "There is no such alert, or it is over."}},
)
async def acknowledge(
    request: Request, alert_id: str, said: Acknowledgement | None = None
) -> dict[str, str]:
    """Everybody is told on the alerts' stream; the alert stays open until it clears."""
    views: Views = request.app.state.views
    alert = next(
        (one for one in await all_of(request, views.open_alerts) if one.alert_id == alert_id),
        None,
    )
    if alert is None:
        raise NoSuchThing(
            f"there is no open alert {alert_id[:60]!r}; GET /api/v1/alerts lists those there are"
        )
    ack = AlertAck(
        alert_id=alert_id,
        entity_id=alert.entity_id,
        by=who_asks(request),
        comment="" if said is None else said.comment,
        event_time_us=now_us(),
    )
    await write(request, ack)
    return {"alert_id": alert_id, "status": "acknowledging"}


def _limits(request: Request, portfolio_id: str, wanted: Limits) -> RiskLimits:
    return RiskLimits(
        portfolio_id=portfolio_id,
        limits=[RiskLimit(**one.model_dump()) for one in wanted.limits],
        stale_after_s=wanted.stale_after_s,
        set_by=who_asks(request),
        comment=wanted.comment,
        event_time_us=now_us(),
    )


async def all_of(request: Request, view: TableView[S]) -> Sequence[S]:
    """What the caller's tenant has.

    Raises:
        Unavailable: the view could not be completed in time.
    """
    caller = caller_of(request)
    try:
        return await view.all(None if caller is None else caller.tenant or "")
    except LogUnavailable as error:
        raise Unavailable("no_broker", str(error)) from error


def who_asks(request: Request) -> str | None:
    """The caller's `sub`, where there are callers."""
    caller = caller_of(request)
    return None if caller is None else caller.subject


def _shown(limits: RiskLimits) -> dict[str, object]:
    return {
        "portfolio_id": limits.portfolio_id,
        "limits": [one._asdict() for one in limits.limits],
        "stale_after_s": limits.stale_after_s,
        "set_by": limits.set_by,
        "comment": limits.comment,
        "set_at": to_rfc3339(limits.event_time_us),
    }


def _worded(alert: OpenAlert) -> dict[str, object]:
    rendered = asdict(alert)
    rendered["as_of"] = to_rfc3339(rendered.pop("event_time_us"))
    return rendered
