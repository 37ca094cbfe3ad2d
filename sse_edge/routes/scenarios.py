"""Stress scenarios: named shocks of series, by which processors value portfolios and books.

The shocks of a historical scenario are computed here, once, from all returns that the log has of
the caller's tenant. Each partition of the topic gets a copy of the scenario. The copies are written
in order, so the scenario is listed when all partitions have it. A scenario that could not be
written everywhere can be put again: the later one counts.
"""

import asyncio
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from math import isfinite
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kafka_io.clock import now_us
from schemas.bounds import NAME_CHARS_MAX
from schemas.calendars import parse_calendar
from schemas.errors import Refused
from schemas.events import OtherSeries, ReturnBatch, RiskHistory, Scenario, ScenarioKind, Shock
from schemas.gate import admit
from schemas.instants import EARLIEST_US, LATEST_US, to_rfc3339
from schemas.topics import PORTFOLIO_RETURNS, RISK_SCENARIOS
from sse_edge.caller import Scope
from sse_edge.delivery.node import Node
from sse_edge.errors import InvalidParameter, LogUnavailable, NoSuchThing
from sse_edge.http.dependencies import node_of, rows_of, subject_of, tenant_written_by
from sse_edge.http.quotas import refuse_beyond
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import write
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan
from sse_edge.routes.shocks import NoFactor, NoSuchDays, PastReturns, TooManyReturns, by_beta
from sse_edge.routes.views import Views, ViewsDep

_COMMENT_CHARS_MAX = 1_000
_SHOCKS_MAX = 10_000
_NUMBER_BYTES = 8
_LAST_DATE = date(9_998, 12, 31)

router = APIRouter(prefix="/api/v1/scenarios", tags=["risk"])

ScenarioName = Annotated[
    str,
    Path(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="The name of the scenario: letters, digits, dots, hyphens and underscores.",
    ),
]
_Comment = Annotated[str, Field(max_length=_COMMENT_CHARS_MAX)]
_SeriesId = Annotated[str, Field(min_length=1, max_length=256)]
_Day = Annotated[date, Field(le=_LAST_DATE)]


class HistoricalRequest(BaseModel):
    """A day or window of the past: each series' returns on these days are added."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    kind: Literal["historical"]
    """The returns of past days."""
    first_day: Annotated[_Day, Field(alias="from")]
    """The first day."""
    last_day: Annotated[_Day, Field(alias="to")]
    """The last day, inclusive; the same as `from` for a single day."""
    calendar: Annotated[str, Field(max_length=NAME_CHARS_MAX)] = "UTC"
    """The calendar that dates the returns: a time zone and, unless days end at midnight, the time
    at which they do, as in `America/New_York 17:00`; that of the books which are valued by it."""
    comment: _Comment = ""
    """The reason; the log keeps it."""

    @field_validator("calendar")
    @classmethod
    def _is_calendar(cls, text: str) -> str:
        parse_calendar(text)
        return text

    @model_validator(mode="after")
    def _in_order(self) -> "HistoricalRequest":
        if self.first_day > self.last_day:
            raise ValueError(f"from: {self.first_day} is after to: {self.last_day}")
        return self


class HypotheticalRequest(BaseModel):
    """Shocks of some series."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    kind: Literal["hypothetical"]
    """Shocks that the request gives."""
    shocks: Annotated[
        dict[_SeriesId, Annotated[float, Field(ge=-1_000, le=1_000)]],
        Field(min_length=1, max_length=_SHOCKS_MAX),
    ]
    """The return of each series, as a fraction: -0.2 is a fall by 20 %."""
    others: Literal["zero", "beta"] = "zero"
    """How the other series move: not at all, or by their betas to the factor. Betas are computed
    now, from the returns in the windows; a series without enough of them is missing."""
    factor: _SeriesId | None = None
    """With `beta`: the series that the others follow. It must be one of `shocks`."""
    comment: _Comment = ""
    """The reason; the log keeps it."""

    @field_validator("shocks")
    @classmethod
    def _without_minus_zero(cls, shocks: dict[str, float]) -> dict[str, float]:
        return {name: value + 0.0 for name, value in shocks.items()}  # -0.0 becomes 0.0

    @model_validator(mode="after")
    def _with_factor(self) -> "HypotheticalRequest":
        if self.others == "beta" and self.factor not in self.shocks:
            raise ValueError("factor: with others=beta, name the series of `shocks` to follow")
        if self.others == "zero" and self.factor is not None:
            raise ValueError("factor: leave it out, or set others to beta")
        return self


ScenarioRequest = Annotated[
    HistoricalRequest | HypotheticalRequest,
    Field(discriminator="kind"),
    Body(
        examples=[
            {"kind": "historical", "from": "2008-09-15", "to": "2008-10-10"},
            {"kind": "hypothetical", "shocks": {"SPX": -0.2}, "others": "beta", "factor": "SPX"},
        ]
    ),
]


@router.put(
    "/{name}",
    dependencies=[require(Scope.LIMITS)],
    summary="Put a stress scenario",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def put_scenario(
    request: Request, views: ViewsDep, name: ScenarioName, body: ScenarioRequest
) -> dict[str, object]:
    """Replace a scenario. Its shocks are computed now, and stay as they are until it is put again.

    Processors value all portfolios and books of the tenant by it at once. A day that the log no
    longer has is refused, with the days that it has.
    """
    async with views.scenario_writes(tenant_written_by(request)):
        present = await _present(request, views)
        standing = {row.name for row in present.values() if not row.withdrawn}
        refuse_beyond(views.settings.scenarios_max, standing, name, "scenarios")
        if isinstance(body, HistoricalRequest):
            scenario = await _historical(request, name, body)
        else:
            scenario = await _hypothetical(request, views, name, body)
        return await _put(request, scenario, present)


@router.delete(
    "/{name}", dependencies=[require(Scope.LIMITS)], summary="Withdraw a stress scenario"
)
async def withdraw_scenario(
    request: Request, views: ViewsDep, name: ScenarioName
) -> dict[str, object]:
    """Portfolios and books are no longer valued by it; limits on it have no effect."""
    async with views.scenario_writes(tenant_written_by(request)):
        scenario = Scenario(
            name=name,
            version=0,
            kind=ScenarioKind.HYPOTHETICAL,
            others=OtherSeries.MISSING,
            withdrawn=True,
            set_by=subject_of(request),
            event_time_us=now_us(),
        )
        await _put(request, scenario, await _present(request, views))
    return {"name": name, "status": "withdrawn"}


@router.get("", summary="List all stress scenarios")
async def all_scenarios(request: Request, views: ViewsDep) -> list[dict[str, object]]:
    """Scenarios are listed by name, each with the number of its shocks."""
    rows: Sequence[Scenario] = await rows_of(request, views.scenarios)
    return [_summary(row) for row in sorted(rows, key=lambda row: row.name) if not row.withdrawn]


@router.get("/{name}", summary="Get a stress scenario with its shocks")
async def scenario_of(request: Request, views: ViewsDep, name: ScenarioName) -> dict[str, object]:
    """Return the shock of each series, with the number of returns and the beta behind it."""
    for row in await rows_of(request, views.scenarios):
        if row.name == name and not row.withdrawn:
            return _shown(row)
    raise NoSuchThing(f"there is no scenario {name[:60]!r}; GET /api/v1/scenarios lists all")


async def _present(request: Request, views: Views) -> Mapping[str, Scenario]:
    """Return the last version of each scenario of the tenant that the caller writes for."""
    rows = await views.scenarios.all(tenant_written_by(request) or "")
    return {row.name: row for row in rows}


async def _put(
    request: Request, scenario: Scenario, present: Mapping[str, Scenario]
) -> dict[str, object]:
    """Write the next version of a scenario to each partition, in their order."""
    before = present.get(scenario.name)
    following = replace(scenario, version=1 if before is None else before.version + 1)
    node = node_of(request)
    count = await _partitions(node, node.settings.topic_prefix + RISK_SCENARIOS.name)
    for partition in range(count):
        await write(request, following, partition=partition)
    return _shown(following)


async def _partitions(node: Node, name: str) -> int:
    info = (await node.log.describe([name])).get(name)
    if info is None:
        raise LogUnavailable(f"there is no topic {name}")
    return info.partitions


async def _historical(request: Request, name: str, body: HistoricalRequest) -> Scenario:
    past = PastReturns(body.first_day, body.last_day, parse_calendar(body.calendar))
    node = node_of(request)
    within_s = node.settings.scenario_read_s
    try:
        async with asyncio.timeout(within_s):
            await _read_all(node, (tenant_written_by(request) or "").encode(), past)
    except TimeoutError:
        raise LogUnavailable(
            f"the returns could not be read within {within_s:g} s; "
            "TAPEWIRE_SCENARIO_READ_S allows more"
        ) from None
    except TooManyReturns as error:
        raise InvalidParameter("from", str(error)) from error
    try:
        shocks, days = past.shocks()
    except NoSuchDays as error:
        raise InvalidParameter("from", str(error)) from error
    return Scenario(
        name=name,
        version=0,
        kind=ScenarioKind.HISTORICAL,
        shocks=shocks,
        others=OtherSeries.MISSING,
        first_day=body.first_day.isoformat(),
        last_day=body.last_day.isoformat(),
        days=days,
        calendar=None if body.calendar == "UTC" else body.calendar,
        set_by=subject_of(request),
        comment=body.comment,
        event_time_us=now_us(),
    )


async def _read_all(node: Node, tenant: bytes, past: PastReturns) -> None:
    """Add all returns of a tenant that the log has.

    Raises:
        LogUnavailable: Kafka cannot be read.
    """
    name = node.settings.topic_prefix + PORTFOLIO_RETURNS.name
    ahead_us = node.settings.ahead_s * 1_000_000
    partitions = [Partition(name, number) for number in range(await _partitions(node, name))]
    begins = await node.log.begin_offsets(partitions)
    for where, end in (await node.log.end_offsets(partitions)).items():
        position = begins[where]
        async for batch in scan(node.log, where, position, end):
            # In a thread, since a node also serves streams meanwhile.
            await asyncio.to_thread(_add, batch.records, tenant, past, ahead_us)
            position = batch.next_offset
        if position < end:
            raise LogUnavailable(f"partition {where.number} of {name} could not be read to its end")


def _add(records: Sequence[Record], tenant: bytes, past: PastReturns, ahead_us: float) -> None:
    for record in records:
        if record.tenant != tenant:
            continue
        try:
            batch = admit(record.value, ReturnBatch)
        except Refused:
            continue  # as processors do, which write a dead letter about it
        past.add(batch, record.timestamp_ms * 1000 + ahead_us)


async def _hypothetical(
    request: Request, views: Views, name: str, body: HypotheticalRequest
) -> Scenario:
    shocks = [Shock(series_id, value) for series_id, value in sorted(body.shocks.items())]
    if body.factor is not None:
        rows = await views.histories.all(tenant_written_by(request) or "")
        windows = {row.portfolio_id: lambda row=row: _window_of(row) for row in rows}
        try:
            shocks += await asyncio.to_thread(
                lambda: list(by_beta(body.shocks, body.factor or "", windows))
            )
        except NoFactor as error:
            raise InvalidParameter("factor", str(error)) from error
    return Scenario(
        name=name,
        version=0,
        kind=ScenarioKind.HYPOTHETICAL,
        shocks=shocks,
        others=body.others,
        factor=body.factor,
        set_by=subject_of(request),
        comment=body.comment,
        event_time_us=now_us(),
    )


def _window_of(event: RiskHistory) -> Mapping[int, float]:
    """Return the returns of a portfolio's window by their times; none of a damaged row."""
    middle = event.observations * _NUMBER_BYTES
    if len(event.window) != 2 * middle:
        return {}
    times, values = array("q", event.window[:middle]), array("d", event.window[middle:])
    return {
        at_us: value
        for at_us, value in zip(times, values, strict=True)
        if EARLIEST_US <= at_us < LATEST_US and isfinite(value)
    }


def _summary(scenario: Scenario) -> dict[str, object]:
    """Return a scenario without its shocks."""
    dated = {} if scenario.calendar is None else {"calendar": scenario.calendar}
    return {
        "name": scenario.name,
        "version": scenario.version,
        "kind": scenario.kind,
        "from": scenario.first_day,
        "to": scenario.last_day,
        "days": scenario.days,
        "others": scenario.others,
        "factor": scenario.factor,
        "series": len(scenario.shocks),
        "set_by": scenario.set_by,
        "comment": scenario.comment,
        "set_at": to_rfc3339(scenario.event_time_us),
        **dated,
    }


def _shown(scenario: Scenario) -> dict[str, object]:
    return {**_summary(scenario), "shocks": [shock._asdict() for shock in scenario.shocks]}
