"""The events: immutable facts, in the past tense, as Python values.

One class for each Avro record of `schemas/avro`, with the same names; `schemas.codec` turns one
into the other. Times are integers, microseconds since 1970 UTC: what a window compares a million
times an hour should cost nothing to read. `schemas.instants` words them for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStep:
    """Where a task is, and what came of it; a lost worker's task is another's next attempt."""

    stage: str
    attempt: int = 1
    estimated_completion_us: int | None = None
    details: Mapping[str, int | float | str] = field(default_factory=dict)
    error: str | None = None
    error_details: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """A training run has come this far. `progress` is a percentage.

    One that was asked for by a `TrainingCommand` is a task.
    """

    task_id: str
    progress: float
    status: str
    message: str
    metrics: Mapping[str, float]
    event_time_us: int
    task: TaskStep | None = None

    @property
    def ends(self) -> bool:
        """Whether this is the last of the run's story."""
        return self.status in ("completed", "failed")

    @property
    def event_id(self) -> str | None:
        """A task ends once: a second worker's ending, after a crash, carries the same id."""
        return f"task:{self.task_id}:ended" if self.task is not None and self.ends else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCommand:
    """Somebody wants a forecast of a meter's consumption trained."""

    task_id: str
    meter_id: str
    meter_type: str
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStep:
    """A step of a backtest job; `data` is JSON, of transactions or of a result."""

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
    """A backtest has come this far. `progress` is a percentage, `current_date` a simulated day."""

    backtest_id: str
    progress: float
    status: str
    message: str
    current_date: str | None = None
    results: Mapping[str, float]
    event_time_us: int
    job: JobStep | None = None

    @property
    def ends(self) -> bool:
        """Whether this is the last of the run's story."""
        if self.job is not None:
            return self.job.kind in ("completed", "failed", "cancelled")
        return self.status in ("completed", "failed")

    @property
    def event_id(self) -> str | None:
        """A job ends once: a second worker's ending, after a crash, carries the same id."""
        return f"job:{self.backtest_id}:ended" if self.job is not None and self.ends else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestCommand:
    """Somebody wants a strategy tried on past prices; dates are YYYY-MM-DD, both included."""

    job_id: str
    owner: str | None = None
    symbol: str
    strategy: str
    parameters: Mapping[str, float]
    interval: str = "day"
    start_date: str | None = None
    end_date: str | None = None
    cost: float
    initial_cash: float
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Prices of one interval; `time` is RFC 3339 or, of a day, YYYY-MM-DD."""

    time: str
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """Something has changed hands; the amount is in units of the symbol."""

    time_us: int
    price: float
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBatch:
    """Trades of one symbol, in the order in which they were made.

    The `first` is so many-eth of all of the symbol's trades; every later one is of `watermark_us`
    or after it.
    """

    symbol: str
    first: int
    trades: Sequence[Trade]
    watermark_us: int

    @property
    def event_time_us(self) -> int:
        """How far it brings the symbol's time."""
        return self.watermark_us

    @property
    def event_id(self) -> str:
        """Sent again, it says the same."""
        return f"trades:{self.symbol}:{self.first}:{len(self.trades)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """Prices of one interval in which there was a trade, `end_us` exclusive."""

    symbol: str
    interval: str
    start_us: int
    end_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int

    @property
    def event_time_us(self) -> int:
        """It is told when its interval is over."""
        return self.end_us

    @property
    def event_id(self) -> str:
        """An interval has one candle, however often it is told."""
        return f"candle:{self.symbol}:{self.interval}:{self.start_us}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleState:
    """What is known of a symbol: up to which trade, and the candles that still change."""

    symbol: str
    next: int
    watermark_us: int
    forming: Sequence[Candle]
    late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChunk:
    """Some of the bars that a backtest ran on: those from the `first`-th on, of `total`."""

    job_id: str
    interval: str
    first: int
    total: int
    bars: Sequence[Bar]
    event_time_us: int

    @property
    def event_id(self) -> str:
        """A later attempt says the same."""
        return f"bars:{self.job_id}:{self.interval}:{self.first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What lists show of a backtest job, and where its story stands; the result is JSON."""

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
    """Before its last event: which lists it was on."""
    tenant: str | None = None

    @property
    def ended(self) -> bool:
        """Whether there is no more to come."""
        return self.status in ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommand:
    """Somebody wants a message answered."""

    run_id: str
    message: str
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent:
    """A step of a run: routing, then an agent's answer, a piece of text at a time."""

    run_id: str
    kind: str
    attempt: int = 1
    number: int = 0
    """Of the step, within its attempt."""
    agent_id: str | None = None
    agent_name: str | None = None
    protocol: str | None = None
    confidence: float | None = None
    reasoning: str | None = None
    text: str | None = None
    """A piece of the answer; of a completed run its beginning at least; of a failed one, why."""
    event_time_us: int

    @property
    def ends(self) -> bool:
        """Whether this is the last of the run's story."""
        return self.kind in ("completed", "error")

    @property
    def event_id(self) -> str:
        """A step that is told again, after a crash, carries the same id; and a run ends once."""
        step = "ended" if self.ends else f"{self.attempt}:{self.number}"
        return f"run:{self.run_id}:{step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEvent:
    """Somebody has joined a room, said something in it, or left it."""

    room: str
    kind: str
    user: str
    message: str = ""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdate:
    """Something that one user is to see, and nobody else; `data` is JSON."""

    user_id: str
    kind: str
    data: str
    event_time_us: int


class Return(NamedTuple):
    """A simple return of one observation period, as a fraction of net asset value."""

    portfolio_id: str
    event_time_us: int
    value: float
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnBatch:
    """Returns of portfolios that share a partition, in the order in which they were observed."""

    returns: Sequence[Return]

    @property
    def event_time_us(self) -> int:
        """When the newest of them was observed."""
        return max((one.event_time_us for one in self.returns), default=0)


class RiskEstimate(NamedTuple):
    """What one method says, at one confidence, of so many periods ahead."""

    method: str
    confidence: float
    horizon: int
    status: str
    as_of_us: int
    var: float | None = None
    es: float | None = None
    scaled: bool = False
    """By the root of the horizon."""
    domain_ok: bool = True
    """Whether the method may be used on such returns."""


class ModelBacktest(NamedTuple):
    """How often losses have exceeded the forecast VaR; each ratio with its p-value."""

    confidence: float
    observations: int
    exceptions: int
    zone: str
    kupiec: float
    kupiec_p: float
    independence: float
    independence_p: float
    conditional_coverage: float
    conditional_coverage_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskMeasure:
    """What a window of returns says. VaR and ES are positive losses, fractions of NAV."""

    portfolio_id: str
    as_of_us: int
    method: str
    status: str
    observations: int
    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None
    scenario_us: int | None = None
    threshold: float | None = None
    utilisation: float | None = None
    event_id: str
    source_topic: str
    source_partition: int
    source_offset: int
    volatility: float | None = None
    drawdown: float | None = None
    max_drawdown: float | None = None
    estimates: Sequence[RiskEstimate] = ()
    model_backtests: Sequence[ModelBacktest] = ()

    @property
    def event_time_us(self) -> int:
        """A measure is as old as the newest return in it."""
        return self.as_of_us


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskAlert:
    """One step of an alert's life: raised, escalated, acknowledged, deescalated, cleared, ..."""

    alert_id: str
    transition_id: str
    alert_type: str
    state: str
    severity: str
    message: str
    metric_name: str
    metric_value: float
    threshold: float
    entity_type: str
    entity_id: str
    event_time_us: int
    level: str | None = None
    utilisation: float | None = None
    rule_id: str | None = None
    scenario_us: int | None = None
    source_topic: str | None = None
    source_partition: int | None = None
    source_offset: int | None = None

    @property
    def event_id(self) -> str:
        """A repeat of a step, after a crash, carries the same id."""
        return self.transition_id


class RiskLimit(NamedTuple):
    """What one metric of a portfolio may be."""

    metric: str
    limit: float
    hysteresis: float = 0.1
    warn_ratio: float | None = None
    critical_ratio: float | None = None
    raise_after: int = 1
    clear_after: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """What a portfolio's risk may be, from now on; with no limits, the defaults."""

    portfolio_id: str
    limits: Sequence[RiskLimit]
    stale_after_s: float | None = None
    set_by: str | None = None
    comment: str = ""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAck:
    """Somebody has seen an alert, and deals with it."""

    alert_id: str
    entity_id: str
    by: str | None = None
    comment: str = ""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRenewal:
    """Whoever follows a stream has a fresh token: the node that tells it lets it live on."""

    challenge: str
    """What the stream was asked for the token by."""
    expires_us: int
    """Until when the token is good."""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """An alert that is not cleared, after its last step."""

    alert_id: str
    entity_id: str
    alert_type: str
    rule_id: str | None = None
    state: str
    level: str | None = None
    severity: str
    message: str
    acknowledged: bool
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardUpdate:
    """Counts and figures of one window of time, `window_end_us` exclusive."""

    window_id: str
    update_type: str
    values: Mapping[str, float]
    event_time_us: int
    window_start_us: int | None = None
    window_end_us: int | None = None
    worst: Mapping[str, float] = field(default_factory=dict)
    """The portfolios that use most of their limits: VaR as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTally:
    """What one partition contributed to a window: an amount to add, not a total."""

    window_start_us: int
    window_us: int
    counts: Mapping[str, int]
    source_topic: str
    source_partition: int
    last_offset: int
    first_offset: int = -1
    """The first record that is counted here."""
    newest_us: int = 0
    """How far the source has come; 0 where it only says how things stand."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    """How things stand in the source's partition now, by name."""
    worst: Mapping[str, float] = field(default_factory=dict)
    """The portfolios there that use most of their limits: VaR as a share of it."""
    tenant: str | None = None

    @property
    def board(self) -> str:
        """Where it is counted: a tenant's tallies share a partition."""
        return self.tenant or ""

    @property
    def event_time_us(self) -> int:
        """A tally belongs to the end of its window."""
        return self.window_start_us + self.window_us

    @property
    def event_id(self) -> str:
        """The same records, counted again after a crash, give the same id; none for gauges."""
        window = f"{self.window_start_us}+{self.window_us}@{self.board}"
        where = f"{self.source_topic}/{self.source_partition}/{self.first_offset}"
        return f"tally:{window}:{where}-{self.last_offset}" if self.counts else ""


class SourceState(NamedTuple):
    """What a board knows of one of its sources."""

    topic: str
    partition: int
    newest_us: int
    gauges: Mapping[str, float]
    worst: Mapping[str, float]


class WindowSlice(NamedTuple):
    """What one tally contributed to a window."""

    start_us: int
    source: int
    """Which of the board's sources."""
    first_offset: int
    counts: Mapping[str, int]


class WindowTotal(NamedTuple):
    """What the closed parts of a wide window come to."""

    start_us: int
    length_us: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """A dashboard's windows that are still open, and how far it has been read."""

    board: str
    """The tenant; empty where there are none."""
    partition: int
    """Of its tallies."""
    offset: int = -1
    watermark_us: int = 0
    sources: Sequence[SourceState] = ()
    slices: Sequence[WindowSlice] = ()
    totals: Sequence[WindowTotal] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record, or the `index`-th part of one, that could not be applied, and why."""

    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    index: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    event_time_us: int

    @property
    def event_id(self) -> str:
        """Where the record stands says which letter it is."""
        part = "" if self.index is None else f"/{self.index}"
        return f"dead:{self.topic}/{self.partition}/{self.offset}{part}"


class WatchState(NamedTuple):
    """Where one rule stands for a portfolio."""

    rule_id: str
    level: int
    run: Sequence[int]
    run_up: bool
    alert_id: str | None
    transitions: int
    judged_us: int | None
    acknowledged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioState:
    """Everything the risk processor knows of a portfolio, and up to where it has read.

    `times_us` to `versions` are what the window was before it was packed, and `level` to
    `judged_us` the one rule's that there was before there were `watches`.
    """

    portfolio_id: str
    offset: int
    index: int
    window: bytes = b""
    observations: int = 0
    """In the window."""
    times_us: Sequence[int] = ()
    values: Sequence[float] = ()
    versions: Sequence[int] = ()
    level: int = 0
    run: Sequence[int] = ()
    run_up: bool = True
    alert_id: str | None = None
    transitions: int = 0
    judged_us: int | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    watches: Sequence[WatchState] = ()
    limits: Sequence[RiskLimit] = ()
    stale_after_s: float | None = None
    limits_offset: int = -1
    acks_offset: int = -1
    variance_sum: float | None = None
    exceptions: Mapping[str, str] = field(default_factory=dict)
    """By confidence: of each of the last days, the oldest first, whether it was one (x)."""
    estimates: Sequence[RiskEstimate] = ()
    """The last of those that are made on the slower clock."""
    cause_us: int | None = None
    """Time and version of the return that the last measure came with."""
    cause_version: int = 0
    partition: int = -1
    """Of the returns."""
    tenant: str | None = None
    wanted_by: Mapping[str, str] = field(default_factory=dict)
    """The trees of books that need the returns, and whose they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryState:
    """Where a task's story stands in its partition of the event topic, and how far it is."""

    subject: str
    status: str
    partition: int
    first_offset: int
    last_offset: int
    ended: bool
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildDone:
    """A partition was computed anew; whoever measures it goes on from that."""

    version: str
    """What it was computed under: what stands before its topics' names."""
    partition: int
    event_time_us: int


class Holding(NamedTuple):
    """So much of an instrument, or of a portfolio."""

    series_id: str
    quantity: float
    price: float
    priced_us: int
    """When the price was that; from then on it moves with the returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What a node of a tree of books holds, from now on."""

    root: str
    """The book at the top."""
    book_id: str
    parent: str | None = None
    """The book above; the root where none is named."""
    holdings: Sequence[Holding]
    nav: float | None = None
    """Net asset value; the holdings' sum where none is named."""
    closed: bool = False
    set_by: str | None = None
    event_time_us: int
    tenant: str | None = None
    """Whose it is, in a processor's state; else the header says so."""

    @property
    def path(self) -> str:
        """What tells it from all others."""
        return f"{self.root}/{self.book_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesWanted:
    """A tree of books needs the returns of a series, or does not any more."""

    series_id: str
    root: str
    wanted: bool
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReturns:
    """Returns of the series that a tree of books needs."""

    root: str
    returns: Sequence[Return]

    @property
    def event_time_us(self) -> int:
        """As old as the newest."""
        return max(one.event_time_us for one in self.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """The returns of a series, as a tree of books knows them."""

    root: str
    series_id: str
    window: bytes
    observations: int


class BookPart(NamedTuple):
    """A holding, or a book below: what it does to the book's risk; amounts of currency."""

    part_id: str
    is_book: bool
    value: float
    var_95: float
    """Alone."""
    marginal_95: float | None
    """By the normal method, for each unit of value."""
    component_95: float
    incremental_95: float
    historical_95: float
    """What it lost in the scenario that the VaR names."""
    historical_es_95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRisk:
    """What a book may lose, and which of its parts does it; VaR and ES are shares of its NAV."""

    root: str
    book_id: str
    parent: str | None = None
    as_of_us: int
    status: str
    observations: int
    series: int
    """How many series are below."""
    missing: Sequence[str]
    """Those without returns that fit the others'."""
    value: float | None = None
    nav: float | None = None
    """None where they are beyond all numbers."""
    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)
    """The same in currency, by name."""
    undiversified_95: float | None = None
    """The sum of the parts' own VaR, in currency."""
    scenario_us: int | None = None
    """When what the VaR at 95 % names was observed."""
    estimates: Sequence[RiskEstimate] = ()
    seed: int = 0
    """Of the simulation."""
    parts: Sequence[BookPart] = ()

    @property
    def path(self) -> str:
        """What tells the book from all others."""
        return f"{self.root}/{self.book_id}"

    @property
    def event_time_us(self) -> int:
        """As old as the newest return in it."""
        return self.as_of_us


Event = (
    TrainingProgress
    | TrainingCommand
    | BacktestProgress
    | BacktestCommand
    | BarChunk
    | AgentCommand
    | AgentEvent
    | ChatEvent
    | UserUpdate
    | StreamRenewal
    | TradeBatch
    | Candle
    | ReturnBatch
    | RiskMeasure
    | RiskAlert
    | RiskLimits
    | AlertAck
    | OpenAlert
    | RebuildDone
    | Book
    | SeriesWanted
    | SeriesReturns
    | BookRisk
    | DashboardUpdate
    | WindowTally
    | DeadLetter
)
"""What a topic can carry."""

Record = Event | PortfolioState | StoryState | JobState | CandleState | BoardState | SeriesState
"""What the codec can write: the events, and processors' own state."""
