"""Backtest jobs: submit, cancel and list them, and follow the events of one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kafka_io.clock import now_us
from producers.backtesting import catalogue
from producers.errors import InvalidStrategy
from schemas.events import (
    BacktestCommand,
    BacktestProgress,
    Fill,
    Interval,
    JobState,
    JobStatus,
    JobStep,
    JobStepKind,
    RunStatus,
    Strategy,
)
from schemas.run_ids import new_id
from sse_edge.caller import Caller, Scope
from sse_edge.delivery.start import FromOffsets
from sse_edge.errors import InvalidParameter, NoSuchThing
from sse_edge.http import openapi
from sse_edge.http.dependencies import (
    AnyCase,
    NodeDep,
    caller_of,
    node_of,
    rows_of,
    tenant_read_by,
)
from sse_edge.http.quotas import refuse_beyond
from sse_edge.http.request_values import given_cursor
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import (
    event_names,
    open_stream,
    stream_route,
    write,
)
from sse_edge.routes.views import Views, views_of
from sse_edge.streams.dialects.backtest import backtest, job as as_job
from sse_edge.streams.requests import of_entities

CHANNEL = "backtest_job"

_LIMIT_MAX = 10_000

Limit = Annotated[int, Query(ge=1, le=_LIMIT_MAX, description="The most entries of the list.")]
StatusFilter = Annotated[
    JobStatus | None, Query(description="Only the jobs with this status; all without it.")
]
JobId = Annotated[str, Path(description="The id of the job.")]

router = APIRouter(tags=["backtests"])


_Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class BacktestRequest(BaseModel):
    """A strategy to run on past prices."""

    model_config = ConfigDict(
        extra="allow",  # clients of other systems send fields of their own
        use_attribute_docstrings=True,
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
        },
    )

    symbol: Annotated[str, Field(min_length=1, max_length=256)]
    """A packaged stock, or a symbol that has candles."""
    strategy: Annotated[Strategy, AnyCase] = Strategy.MOVING_AVERAGE_CROSSOVER
    """The strategy that decides at each bar's close."""
    parameters: Mapping[str, float] = {}
    """The parameters of the strategy, by name; those that are left out have their defaults."""
    start_date: _Day | None = None
    """The first day, YYYY-MM-DD; by default that of the prices."""
    end_date: _Day | None = None
    """The last day, YYYY-MM-DD; by default that of the prices."""
    cost: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """The commission of an order, as a fraction of the traded value."""
    slippage: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The fraction by which a buy's price is higher, and a sale's lower, than the bar's."""
    fill: Annotated[Fill, AnyCase] = Fill.NEXT_OPEN
    """Where an order is filled: at the open after the close that decided it, or at this close."""
    initial_cash: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10_000.0
    """The cash at the start."""
    interval: Annotated[Interval, AnyCase] = Interval.DAY
    """The interval of the bars."""


@router.post(
    "/api/backtesting/jobs",
    dependencies=[require(Scope.WRITE)],
    summary="Submit a backtest",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def submit(request: Request, body: BacktestRequest) -> dict[str, object]:
    """Check the job, write a command for a worker, and answer once Kafka has it.

    Names may be in any case. A job that cannot run, such as one on an unknown symbol, is refused.
    """
    symbol, parameters = await _checked(request, body)
    pending = {job.job_id for job in await jobs_of_caller(request) if not job.ended}
    most = node_of(request).settings.pending_jobs_max
    refuse_beyond(most, pending, None, "backtests that have not ended")
    caller = caller_of(request)
    owner, requested_us = None if caller is None else caller.subject, now_us()
    job_id = new_id(requested_us, None if caller is None else caller.owner)
    step = JobStep(kind=JobStepKind.SUBMITTED, symbol=symbol, strategy=body.strategy, owner=owner)
    submitted = _event(job_id, step, f"{symbol} waits for a worker", requested_us)
    command = BacktestCommand(
        job_id=job_id,
        owner=owner,
        symbol=symbol,
        strategy=body.strategy,
        parameters=parameters,
        interval=body.interval,
        start_date=body.start_date,
        end_date=body.end_date,
        cost=body.cost,
        initial_cash=body.initial_cash,
        event_time_us=requested_us,
        slippage=body.slippage,
        fill=body.fill,
    )
    position = await write(request, submitted)
    await write(request, command)
    return as_job(
        JobState(
            job_id=job_id,
            owner=owner,
            status=JobStatus.PENDING,
            progress=0.0,
            message=submitted.message,
            symbol=symbol,
            strategy=body.strategy,
            created_us=requested_us,
            updated_us=requested_us,
            partition=position.partition,
            first_offset=position.offset,
            last_offset=position.offset,
        )
    )


async def _checked(request: Request, body: BacktestRequest) -> tuple[str, Mapping[str, float]]:
    """Return the symbol as its prices have it, and all parameters of the strategy.

    Raises:
        InvalidParameter: the job cannot run.
        LogUnavailable: the symbols with candles could not be read in time.
    """
    misplaced = sorted(catalogue.PARAMETERS & (body.model_extra or {}).keys())
    if misplaced:
        raise InvalidParameter(
            misplaced[0],
            f'it is a parameter of a strategy: write "parameters": {{"{misplaced[0]}": ...}}',
        )
    try:
        symbol = catalogue.PACKAGED_BY_NAME.get(body.symbol.strip().casefold())
        if symbol is None:
            symbol = catalogue.find_symbol(body.symbol, await _candles(request, body.symbol))
        days = catalogue.Days(body.start_date, body.end_date)
        catalogue.check_series(symbol, body.interval, days)
        return symbol, catalogue.resolve_parameters(body.strategy, body.parameters)
    except InvalidStrategy as error:
        raise InvalidParameter(error.parameter or "job", str(error)) from error


async def _candles(request: Request, symbol: str) -> Sequence[str]:
    """Return the symbols that have candles.

    Where there are none at all, the system may have just started: wait for the given one.

    Raises:
        LogUnavailable: they could not be read in time.
    """
    views = views_of(request)
    if not await views.candles.all():
        await views.candles.find(symbol, views.settings.processor_patience_s)
    return [state.symbol for state in await rows_of(request, views.candles)]


@router.get("/api/backtesting/jobs", summary="List jobs, newest first")
async def jobs(
    request: Request, status_filter: StatusFilter = None, limit: Limit = 10
) -> list[dict[str, object]]:
    """Return the caller's jobs, all or those with one status."""
    await catch_up(request)
    found = [job for job in await jobs_of_caller(request) if status_filter in (None, job.status)]
    return [as_job(job) for job in found[:limit]]


@router.get("/api/backtesting/history", summary="List ended backtests, newest first")
async def history(request: Request, limit: Limit = 10) -> list[dict[str, object]]:
    """Return the caller's ended backtests."""
    await catch_up(request)
    return [backtest(job) for job in await jobs_of_caller(request) if job.ended][:limit]


@router.delete(
    "/api/backtesting/jobs/{job_id}",
    dependencies=[require(Scope.WRITE)],
    summary="Cancel a job, or remove an ended one",
    responses={404: {"description": "There is no such job."}},
)
async def cancel(request: Request, job_id: JobId) -> dict[str, str]:
    """A running job ends with `cancelled`; an ended one is no longer listed."""
    await catch_up(request)
    state = await known(request, job_id)
    kind = JobStepKind.REMOVED if state.ended else JobStepKind.CANCEL_REQUESTED
    step = JobStep(kind=kind, symbol=state.symbol, strategy=state.strategy, owner=state.owner)
    message = "removed" if state.ended else "is to be cancelled"
    await write(request, _event(job_id, step, message, now_us(), state.progress))
    return {"job_id": job_id, "status": "removed" if state.ended else "cancelling"}


@stream_route(
    router,
    "/api/sse/backtest/{job_id}",
    "Follow a job from its start to its end",
    openapi.of(CHANNEL),
)
async def follow_job(request: Request, node: NodeDep, job_id: JobId) -> Response:
    """Stream the events of a job from its start.

    The stream stays open after its last event, with heartbeats, until the client closes it.
    """
    stream = of_entities(CHANNEL, [job_id], event_names(request))
    if node.unavailable_for is not None:
        return open_stream(request, stream)
    if given_cursor(request) is not None and caller_of(request) is None:
        return open_stream(request, stream)
    state = await known(request, job_id)
    stream = replace(stream, homes=frozenset({state.tenant or ""}))
    return open_stream(request, stream, FromOffsets({state.partition: state.first_offset}))


async def catch_up(request: Request) -> None:
    """Wait until the table of jobs has every event that streams have delivered so far.

    Raises:
        LogError: Kafka cannot be read.
    """
    node = node_of(request)
    if node.unavailable_for is not None:
        return
    views = views_of(request)
    await views.jobs.all()
    # Without a processor the list is behind the streams, and is returned all the same.
    await views.latest_jobs.catch_up(node.settings.processor_patience_s, tenant_read_by(request))


async def jobs_of_caller(request: Request) -> Sequence[JobState]:
    """Return the caller's jobs, newest first; all jobs for a caller without a token.

    Raises:
        LogUnavailable: the table of jobs could not be read in time.
    """
    found = await rows_of(request, views_of(request).jobs)
    caller = caller_of(request)
    owned = [job for job in found if _is_readable_by(caller, job)]
    return sorted(owned, key=lambda job: (job.created_us, job.job_id), reverse=True)


async def known(request: Request, job_id: str) -> JobState:
    """Return a job of the caller; see `known_to`."""
    return await known_to(views_of(request), caller_of(request), job_id)


async def known_to(views: Views, caller: Caller | None, job_id: str) -> JobState:
    """Return a job of a caller.

    Raises:
        NoSuchThing: there is no such job of the caller.
        LogUnavailable: the table or the log of jobs could not be read in time.
    """
    state = await views.find_job(job_id, None if caller is None else caller.tenant or "")
    if state is None or not _is_readable_by(caller, state):
        raise NoSuchThing(
            f"there is no job {job_id[:60]!r}; POST /api/backtesting/jobs submits one, "
            "and it is kept for 30 days"
        )
    return state


def _is_readable_by(caller: Caller | None, job: JobState) -> bool:
    """Return whether a job of a caller's tenant is the caller's, or was made without a token."""
    return caller is None or job.owner in (None, caller.subject)


def _event(
    job_id: str, step: JobStep, message: str, now_us: int, progress: float = 0.0
) -> BacktestProgress:
    return BacktestProgress(
        backtest_id=job_id,
        progress=progress,
        status=(RunStatus.STARTED if step.kind == JobStepKind.SUBMITTED else RunStatus.RUNNING),
        message=message,
        results={},
        event_time_us=now_us,
        job=step,
    )
