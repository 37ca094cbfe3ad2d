"""Events of backtests and backtest jobs."""

import json
from dataclasses import dataclass

from schemas.bounds import (
    Count,
    Finite,
    InstantUs,
    Items,
    Json,
    JsonOrDamaged,
    Name,
    ObservedUs,
    Percentage,
    Real,
    SmallCount,
    Table,
    Text,
)
from schemas.vocabularies import Fill, Interval, JobStatus, JobStepKind, RunStatus

_LAST_STEPS = (JobStepKind.COMPLETED, JobStepKind.FAILED, JobStepKind.CANCELLED)
_LAST_STATUSES = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStep:
    """A step of a backtest job. `data` is JSON: transactions, or the result summary."""

    kind: Name
    attempt: SmallCount = 1
    symbol: Name
    strategy: Name
    owner: Name | None = None
    current_bar: Count | None = None
    total_bars: Count | None = None
    data: JsonOrDamaged | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestProgress:
    """A backtest made progress. `progress` is a percentage, `current_date` the simulated day.

    `status` is a `RunStatus`, or a word of the producer's own.
    """

    backtest_id: Name
    progress: Percentage
    status: Name
    message: Text
    current_date: Name | None = None
    results: Table[Real]
    """The results that are numbers."""
    event_time_us: ObservedUs
    job: JobStep | None = None
    results_json: Json | None = None
    """All results as JSON, where they are not a map of numbers."""

    @property
    def all_results(self) -> object:
        """All results, also those that are no numbers."""
        return self.results if self.results_json is None else json.loads(self.results_json)

    @property
    def ends(self) -> bool:
        """Whether this is the last event of the run."""
        if self.job is not None:
            return self.job.kind in _LAST_STEPS
        return self.status in (RunStatus.COMPLETED, RunStatus.FAILED)

    @property
    def event_id(self) -> str | None:
        """The CloudEvents id; a job's end has the same id whichever worker reports it."""
        return f"job:{self.backtest_id}:ended" if self.job is not None and self.ends else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestCommand:
    """A client requested a backtest. Dates are YYYY-MM-DD, and both are included.

    `cost` and `slippage` are fractions of the traded value and of the price; `fill` is a `Fill`.
    """

    job_id: Name
    owner: Name | None = None
    symbol: Name
    strategy: Name
    parameters: Table[Real]
    interval: Name = Interval.DAY
    start_date: Name | None = None
    end_date: Name | None = None
    cost: Finite
    initial_cash: Finite
    event_time_us: ObservedUs
    slippage: Finite = 0.0
    fill: Name = Fill.NEXT_OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Prices of one interval. `time` is RFC 3339, or YYYY-MM-DD for a daily bar."""

    time: Name
    open: Real
    high: Real
    low: Real
    close: Real
    volume: Real


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChunk:
    """Some of the `total` bars that a backtest ran on, from index `first` on."""

    job_id: Name
    interval: Name
    first: SmallCount
    total: SmallCount
    bars: Items[Bar]
    event_time_us: ObservedUs

    @property
    def event_id(self) -> str:
        """The CloudEvents id; every attempt of the job writes the same chunk."""
        return f"bars:{self.job_id}:{self.interval}:{self.first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A backtest job as lists show it, and where its events are. `result_summary` is JSON."""

    job_id: Name
    owner: Name | None = None
    status: Name
    progress: Percentage
    message: Text
    symbol: Name
    strategy: Name
    created_us: InstantUs
    updated_us: InstantUs
    partition: SmallCount
    first_offset: Count
    last_offset: Count
    result_summary: JsonOrDamaged | None = None
    previous_status: Name | None = None
    """The status before the last event; it says which filtered lists held the job."""
    tenant: Name | None = None

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.status in _LAST_STATUSES
