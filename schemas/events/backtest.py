"""Events of backtests and backtest jobs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.vocabularies import Interval, JobStatus, JobStepKind, RunStatus

_LAST_STEPS = (JobStepKind.COMPLETED, JobStepKind.FAILED, JobStepKind.CANCELLED)
_LAST_STATUSES = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStep:
    """A step of a backtest job. `data` is JSON: transactions, or the result summary."""

    kind: str
    attempt: int = 1
    symbol: str
    strategy: str
    owner: str | None = None
    current_bar: int | None = None
    total_bars: int | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestProgress:
    """A backtest made progress. `progress` is a percentage, `current_date` the simulated day.

    `status` is a `RunStatus`, or a word of the producer's own.
    """

    backtest_id: str
    progress: float
    status: str
    message: str
    current_date: str | None = None
    results: Mapping[str, float]
    """The results that are numbers."""
    event_time_us: int
    job: JobStep | None = None
    results_json: str | None = None
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
    """A client requested a backtest. Dates are YYYY-MM-DD, and both are included."""

    job_id: str
    owner: str | None = None
    symbol: str
    strategy: str
    parameters: Mapping[str, float]
    interval: str = Interval.DAY
    start_date: str | None = None
    end_date: str | None = None
    cost: float
    initial_cash: float
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Prices of one interval. `time` is RFC 3339, or YYYY-MM-DD for a daily bar."""

    time: str
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChunk:
    """Some of the `total` bars that a backtest ran on, from index `first` on."""

    job_id: str
    interval: str
    first: int
    total: int
    bars: Sequence[Bar]
    event_time_us: int

    @property
    def event_id(self) -> str:
        """The CloudEvents id; every attempt of the job writes the same chunk."""
        return f"bars:{self.job_id}:{self.interval}:{self.first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A backtest job as lists show it, and where its events are. `result_summary` is JSON."""

    job_id: str
    owner: str | None = None
    status: str
    progress: float
    message: str
    symbol: str
    strategy: str
    created_us: int
    updated_us: int
    partition: int
    first_offset: int
    last_offset: int
    result_summary: str | None = None
    previous_status: str | None = None
    """The status before the last event; it says which filtered lists held the job."""
    tenant: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.status in _LAST_STATUSES
