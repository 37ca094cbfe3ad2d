"""Limits of portfolios. Setting limits writes an event, and processors judge by it at once."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self, TypeVar

from fastapi import APIRouter, Path, Request
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from kafka_io.clock import now_us
from schemas.events import EntityType, Metric, Record, RiskLimit, RiskLimits
from schemas.instants import to_rfc3339
from schemas.vocabularies import STRESS_LOSS
from sse_edge.caller import Scope
from sse_edge.errors import InvalidParameter, NoSuchThing
from sse_edge.http.dependencies import rows_of, subject_of
from sse_edge.http.quotas import refuse_beyond
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import write
from sse_edge.routes.views import ViewsDep

_COMMENT_CHARS_MAX = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIMITS_MAX = 100

router = APIRouter(prefix="/api/v1", tags=["risk"])

S = TypeVar("S", bound=Record)

PortfolioId = Annotated[
    str, Path(min_length=1, max_length=256, description="The name of the portfolio.")
]
Comment = Annotated[str, Field(max_length=_COMMENT_CHARS_MAX)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SCENARIO = "[A-Za-z0-9._-]{1,100}"
"""The pattern of the names of stress scenarios."""
_Metric = Annotated[str, Field(pattern=rf"^({'|'.join(Metric)}|{STRESS_LOSS}{SCENARIO})$")]
"""One pattern and no union, so that an error names the field."""
_Times = Annotated[int, Field(ge=1, le=1_000)]


class TemporaryLimit(BaseModel):
    """A higher limit for some time."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limit: Positive
    """The limit until `valid_until`, above the other one."""
    valid_until: AwareDatetime
    """When the limit falls back, with a time zone; processors go by the log's clock."""
    approved_by: Annotated[str, Field(min_length=1, max_length=256)]
    """The name of the approver; the log keeps it."""


class Thresholds(BaseModel):
    """A limit, and how far from it a value changes the level of an alert."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limit: Positive
    """The limit, as a fraction of net asset value; an alert is raised above it."""
    hysteresis: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of a threshold by which the metric must fall below it, so that the alert clears."""
    warn_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The fraction of the limit at which to warn; without it, there are no warnings."""
    critical_ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """The multiple of the limit at which an alert is critical; without it, none is."""
    raise_after: _Times = 1
    """How many measures in a row must be above a threshold to raise an alert."""
    clear_after: _Times = 1
    """How many measures in a row must be below a threshold to lower an alert."""
    metric: str
    """The limited metric."""
    temporary: TemporaryLimit | None = None
    """A higher limit for some time, after which `limit` holds again."""

    @model_validator(mode="after")
    def _temporary_is_higher(self) -> Self:
        if self.temporary is not None and self.temporary.limit <= self.limit:
            raise ValueError(
                f"the temporary limit is {self.temporary.limit}; it must be above the limit, "
                f"{self.limit}"
            )
        return self


class MetricLimit(Thresholds):
    """The limit of one metric, as a fraction of net asset value."""

    metric: _Metric = Metric.VAR_95.value
    """The limited metric; `stress_loss:NAME` is the loss in the stress scenario of that name."""


class LimitsRequest(BaseModel):
    """All limits of a portfolio; with none, the processors' defaults apply."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
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

    limits: Annotated[list[MetricLimit], Field(max_length=LIMITS_MAX)]
    """The limits, at most one of each metric."""
    stale_after_s: Positive | None = None
    """The seconds without a new measure after which an alert is raised; by default never."""
    comment: Comment = ""
    """The reason; the log keeps it."""

    @field_validator("limits")
    @classmethod
    def _once_each(cls, limits: list[MetricLimit]) -> list[MetricLimit]:
        for metric, count in Counter(limit.metric for limit in limits).items():
            if count > 1:
                raise ValueError(f"there are two limits of {metric}; give one")
        return limits


@router.put(
    "/limits/{portfolio_id}",
    dependencies=[require(Scope.LIMITS)],
    summary="Set a portfolio's limits",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def set_limits(
    request: Request, views: ViewsDep, portfolio_id: PortfolioId, body: LimitsRequest
) -> dict[str, object]:
    """Replace all limits of a portfolio. Processors judge by the new ones at once."""
    rows = await rows_of(request, views.limits)
    limited = {row.portfolio_id for row in rows if row.limits}
    most = views.settings.limited_portfolios_max
    refuse_beyond(most, limited, portfolio_id, "portfolios with limits")
    limits = _limits(request, portfolio_id, body)
    await write(request, limits)
    return _shown(limits)


@router.delete(
    "/limits/{portfolio_id}",
    dependencies=[require(Scope.LIMITS)],
    summary="Withdraw a portfolio's limits",
)
async def withdraw_limits(request: Request, portfolio_id: PortfolioId) -> dict[str, object]:
    """Processors judge by their defaults again, at once."""
    limits = _limits(request, portfolio_id, LimitsRequest(limits=[]))
    await write(request, limits)
    return _shown(limits)


@router.get("/limits", summary="List all limits")
async def all_limits(request: Request, views: ViewsDep) -> list[dict[str, object]]:
    """Limits are listed by portfolio."""
    found = [
        limits
        for limits in await rows_of(request, views.limits)
        if (limits.limits or limits.stale_after_s) and limits.entity_type == EntityType.PORTFOLIO
    ]
    return [_shown(limits) for limits in sorted(found, key=lambda limits: limits.portfolio_id)]


@router.get("/limits/{portfolio_id}", summary="Get a portfolio's limits")
async def limits_of(
    request: Request, views: ViewsDep, portfolio_id: PortfolioId
) -> dict[str, object]:
    """Return the limits that were set last; 404 if the defaults apply."""
    for limits in await rows_of(request, views.limits):
        if limits.portfolio_id == portfolio_id and limits.entity_type == EntityType.PORTFOLIO:
            return _shown(limits)
    raise NoSuchThing(
        f"no limits were set for {portfolio_id[:60]!r}; the processors' defaults apply"
    )


def _limits(request: Request, portfolio_id: str, body: LimitsRequest) -> RiskLimits:
    return RiskLimits(
        portfolio_id=portfolio_id,
        limits=[limit_of(limit) for limit in body.limits],
        stale_after_s=body.stale_after_s,
        set_by=subject_of(request),
        comment=body.comment,
        event_time_us=now_us(),
    )


def limit_of(limit: Thresholds) -> RiskLimit:
    """Return the limit of a request as its event has it.

    Raises:
        InvalidParameter: a temporary limit is over already.
    """
    fields = limit.model_dump(exclude={"temporary"})
    temporary = limit.temporary
    if temporary is None:
        return RiskLimit(**fields)
    until_us = (temporary.valid_until - _EPOCH) // timedelta(microseconds=1)
    if until_us <= now_us():
        raise InvalidParameter(
            "valid_until",
            f"the temporary limit of {limit.metric} ends at {to_rfc3339(until_us)}; that must be "
            "in the future",
        )
    return RiskLimit(
        **fields,
        temporary_limit=temporary.limit,
        valid_until_us=until_us,
        approved_by=temporary.approved_by,
    )


def shown_limit(limit: RiskLimit) -> dict[str, object]:
    """Return a limit as responses show it."""
    shown: dict[str, object] = limit._asdict()
    for name in ("temporary_limit", "valid_until_us", "approved_by"):
        del shown[name]
    if limit.temporary_limit is not None and limit.valid_until_us is not None:
        shown["temporary"] = {
            "limit": limit.temporary_limit,
            "valid_until": to_rfc3339(limit.valid_until_us),
            "approved_by": limit.approved_by,
        }
    return shown


def _shown(limits: RiskLimits) -> dict[str, object]:
    return {
        "portfolio_id": limits.portfolio_id,
        "limits": [shown_limit(limit) for limit in limits.limits],
        "stale_after_s": limits.stale_after_s,
        "set_by": limits.set_by,
        "comment": limits.comment,
        "set_at": to_rfc3339(limits.event_time_us),
    }
