"""Backtest jobs over HTTP: ask for one, cancel it, list them, follow one's story."""

import uuid
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kafka_io.clock import now_us
from schemas.events import BacktestCommand, BacktestProgress, JobState, JobStep
from sse_edge.caller import Caller
from sse_edge.delivery.node import Node
from sse_edge.delivery.start import FromOffsets
from sse_edge.errors import Forbidden, LogError, LogUnavailable, NoSuchThing, Unavailable
from sse_edge.http import openapi
from sse_edge.http.stream_response import (
    caller_of,
    event_names,
    given_cursor,
    open_stream,
    stream_route,
    write,
)
from sse_edge.routes.views import Views
from sse_edge.streams.dialects.backtest import backtest, job as as_job
from sse_edge.streams.requests import of_entities

CHANNEL = "backtest_job"

_LIMIT_MAX = 10_000

Limit = Annotated[int, Query(ge=1, le=_LIMIT_MAX)]

router = APIRouter(tags=["backtests"])


class Strategy(StrEnum):
    """What decides when to hold."""

    MOVING_AVERAGE_CROSSOVER = "moving_average_crossover"
    RSI = "rsi"
    BUY_AND_HOLD = "buy_and_hold"


class Interval(StrEnum):
    """How long a bar is: stocks have days, and what is traded by the second has all of them."""

    MINUTE = "minute"
    THREE_MINUTES = "3minute"
    DAY = "day"


class JobStatus(StrEnum):
    """How far a job is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class Wanted(BaseModel):
    """A strategy to try on past prices."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "symbol": "AAPL",
                    "strategy": "moving_average_crossover",
                    "parameters": {"fast": 20, "slow": 100},
                    "start_date": "2005-01-01",
                    "end_date": "2010-12-31",
                },
                {"symbol": "BTC-USD", "interval": "minute", "strategy": "rsi"},
            ]
        }
    )

    symbol: Annotated[str, Field(min_length=1, max_length=256)]
    strategy: Strategy = Strategy.MOVING_AVERAGE_CROSSOVER
    parameters: Mapping[str, float] = {}
    start_date: _Day | None = None
    end_date: _Day | None = None
    cost: Annotated[float, Field(ge=0, lt=1)] = 0.001
    initial_cash: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10_000.0
    interval: Interval = Interval.DAY


@router.post(
    "/api/backtesting/jobs",
    summary="Ask for a backtest",
    responses={503: {"description": "No broker."}},
)
async def submit(request: Request, wanted: Wanted) -> dict[str, object]:
    """Write a command that a worker takes up; the answer comes when Kafka has it."""
    caller = caller_of(request)
    owner, requested_us = None if caller is None else caller.subject, now_us()
    job_id = str(uuid.uuid4())
    step = JobStep(kind="submitted", symbol=wanted.symbol, strategy=wanted.strategy, owner=owner)
    submitted = _event(job_id, step, f"{wanted.symbol} waits for a worker", requested_us)
    command = BacktestCommand(
        job_id=job_id,
        owner=owner,
        symbol=wanted.symbol,
        strategy=wanted.strategy,
        parameters=wanted.parameters,
        interval=wanted.interval,
        start_date=wanted.start_date,
        end_date=wanted.end_date,
        cost=wanted.cost,
        initial_cash=wanted.initial_cash,
        event_time_us=requested_us,
    )
    position = await write(request, submitted)
    await write(request, command)
    return as_job(
        JobState(
            job_id=job_id,
            owner=owner,
            status="pending",
            progress=0.0,
            message=submitted.message,
            symbol=wanted.symbol,
            strategy=wanted.strategy,
            created_us=requested_us,
            updated_us=requested_us,
            partition=position.partition,
            first_offset=position.offset,
            last_offset=position.offset,
        )
    )


@router.get("/api/backtesting/jobs", summary="Jobs, the newest first")
async def jobs(
    request: Request, status_filter: JobStatus | None = None, limit: Limit = 10
) -> list[dict[str, object]]:
    """One's own jobs, all or those of one status."""
    await catch_up(request)
    found = [one for one in await mine(request) if status_filter in (None, one.status)]
    return [as_job(one) for one in found[:limit]]


@router.get("/api/backtesting/history", summary="Backtests that have ended, the newest first")
async def history(request: Request, limit: Limit = 10) -> list[dict[str, object]]:
    """One's own."""
    await catch_up(request)
    return [backtest(one) for one in await mine(request) if one.ended][:limit]


@router.delete(
    "/api/backtesting/jobs/{job_id}",
    summary="Cancel a job, or remove one that has ended",
    responses={404: {"description": "There is no such job."}},
)
async def cancel(request: Request, job_id: str) -> dict[str, str]:
    """A running job ends with `cancelled`; one that has ended is no longer listed."""
    await catch_up(request)
    state = await known(request, job_id)
    kind = "removed" if state.ended else "cancel_requested"
    step = JobStep(kind=kind, symbol=state.symbol, strategy=state.strategy, owner=state.owner)
    message = "removed" if state.ended else "is to be cancelled"
    await write(request, _event(job_id, step, message, now_us(), state.progress))
    return {"job_id": job_id, "status": "removed" if state.ended else "cancelling"}


@stream_route(
    router, "/api/sse/backtest/{job_id}", "A job's story, from its start", openapi.of(CHANNEL)
)
async def story(request: Request, job_id: str) -> Response:
    """What has happened so far, whatever comes, and the end."""
    node: Node = request.app.state.node
    stream = of_entities(CHANNEL, [job_id], event_names(request))
    if node.unavailable_for is not None:
        return open_stream(request, stream)
    if given_cursor(request) is not None and caller_of(request) is None:
        return open_stream(request, stream)
    state = await known(request, job_id)
    return open_stream(request, stream, FromOffsets({state.partition: state.first_offset}))


async def catch_up(request: Request) -> None:
    """Have what was told on streams so far be in what is known, as long as there is Kafka.

    Raises:
        Unavailable: it cannot be known now.
    """
    node: Node = request.app.state.node
    if node.unavailable_for is not None:
        return
    views: Views = request.app.state.views
    try:
        await views.jobs.all()
        # Where no processor runs, a list is not what streams say, and is told nonetheless.
        await views.latest_jobs.catch_up(node.settings.processor_patience_s)
    except LogError as error:
        raise Unavailable("no_broker", str(error)) from error


async def mine(request: Request) -> Sequence[JobState]:
    """The caller's own jobs, the newest first; everybody's where nobody is asked who they are.

    Raises:
        Unavailable: it cannot be known now.
    """
    views: Views = request.app.state.views
    try:
        found = await views.jobs.all()
    except LogUnavailable as error:
        raise Unavailable("no_broker", str(error)) from error
    caller = caller_of(request)
    mine = [one for one in found if caller is None or one.owner == caller.subject]
    return sorted(mine, key=lambda one: (one.created_us, one.job_id), reverse=True)


async def known(request: Request, job_id: str) -> JobState:
    """A job of the caller's; see `known_to`."""
    return await known_to(request.app.state.views, caller_of(request), job_id)


async def known_to(views: Views, caller: Caller | None, job_id: str) -> JobState:
    """A job of a caller's.

    Raises:
        NoSuchThing: there is none.
        Forbidden: it is somebody else's.
        Unavailable: it cannot be known now.
    """
    try:
        state = await views.jobs.find(job_id, views.settings.processor_patience_s)
    except LogUnavailable as error:
        raise Unavailable("no_broker", str(error)) from error
    if state is None:
        raise NoSuchThing(
            f"there is no job {job_id[:60]!r}; POST /api/backtesting/jobs makes one, "
            "and it is kept for 30 days"
        )
    if caller is not None and caller.subject != state.owner:
        raise Forbidden(f"job {job_id[:60]} is somebody else's")
    return state


def _event(
    job_id: str, step: JobStep, message: str, now_us: int, progress: float = 0.0
) -> BacktestProgress:
    return BacktestProgress(
        backtest_id=job_id,
        progress=progress,
        status="started" if step.kind == "submitted" else "running",
        message=message,
        results={},
        event_time_us=now_us,
        job=step,
    )
