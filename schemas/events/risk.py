"""Returns, measures, limits and alerts of portfolios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Return(NamedTuple):
    """A simple return of one observation period, as a fraction of net asset value."""

    portfolio_id: str
    event_time_us: int
    value: float
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnBatch:
    """Returns of portfolios that share a partition, in the order of observation."""

    returns: Sequence[Return]
    lap: int = 0
    """The lap of a replay of past returns; 0 for returns that are observed. A higher lap than that
    of a portfolio's earlier returns begins its history again: the times may be earlier then."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return; 0 for an empty batch."""
        return max((value.event_time_us for value in self.returns), default=0)


class RiskEstimate(NamedTuple):
    """The estimate of one method at one confidence, `horizon` periods ahead."""

    method: str
    confidence: float
    horizon: int
    status: str
    as_of_us: int
    var: float | None = None
    es: float | None = None
    scaled: bool = False
    """Whether the estimate is that of one period times the square root of the horizon."""
    domain_ok: bool = True
    """Whether the method is valid for such returns."""


class ModelBacktest(NamedTuple):
    """How often losses exceeded the forecast VaR: each test statistic with its p-value."""

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
    """Risk over a window of returns. VaR and ES are positive losses, as fractions of NAV."""

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
        """The observation time of the newest return in the window."""
        return self.as_of_us


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskHistory:
    """The returns in a portfolio's window, each with the VaR that was forecast before it.

    It is written some seconds after a measure, at most every few seconds for a portfolio.
    """

    portfolio_id: str
    as_of_us: int
    observations: int
    """The number of returns."""
    window: bytes
    """The event times in microseconds as 64-bit integers, then the returns as 64-bit floats."""
    var_95: bytes = b""
    """The historical VaR at 95 %, a 64-bit float for each return; NaN where there was none."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return."""
        return self.as_of_us


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskAlert:
    """One transition of an alert, such as raised, escalated, acknowledged or cleared."""

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
        """The CloudEvents id; a transition that is written again has the same id."""
        return self.transition_id


class RiskLimit(NamedTuple):
    """The limit of one metric of a portfolio."""

    metric: str
    limit: float
    hysteresis: float = 0.1
    warn_ratio: float | None = None
    critical_ratio: float | None = None
    raise_after: int = 1
    clear_after: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """The limits of a portfolio from now on. With none, the processors' defaults apply."""

    portfolio_id: str
    limits: Sequence[RiskLimit]
    stale_after_s: float | None = None
    set_by: str | None = None
    comment: str = ""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAck:
    """A person acknowledged an alert."""

    alert_id: str
    entity_id: str
    by: str | None = None
    comment: str = ""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """An alert that is not cleared, after its last transition."""

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
    tenant: str | None = None


class WatchState(NamedTuple):
    """The state of one alert rule for a portfolio."""

    rule_id: str
    level: int
    run: Sequence[int]
    run_up: bool
    alert_id: str | None
    transitions: int
    judged_us: int | None
    acknowledged: bool = False


class ForecastSeries(NamedTuple):
    """The forecasts of one method at one confidence, one before each day of a backtest."""

    method: str
    confidence: float
    var: bytes
    """VaR: 64-bit floats, NaN where there was no forecast."""
    es: bytes
    """Expected shortfall, in the same form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioState:
    """The risk processor's state of a portfolio, with the offsets up to which it has read.

    `times_us` to `versions` hold the window of the first version, before it was packed into
    `window`; `level` to `judged_us` hold its only rule, before there were `watches`.
    """

    portfolio_id: str
    offset: int
    index: int
    window: bytes = b""
    observations: int = 0
    """The number of returns in the window."""
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
    """By confidence: one character for each of the last days, oldest first; x is an exception."""
    estimates: Sequence[RiskEstimate] = ()
    """The last estimates of the methods that do not run at every return."""
    cause_us: int | None = None
    """Time and version of the return that caused the last measure."""
    cause_version: int = 0
    partition: int = -1
    """The partition of the returns."""
    tenant: str | None = None
    wanted_by: Mapping[str, str] = field(default_factory=dict)
    """The trees of books that need the returns, with their tenants."""
    backtest_days: bytes | None = None
    """The times and returns of the last days that have forecasts, packed as `window` is; None where
    the forecasts are those of the days in the window."""
    forecasts: Sequence[ForecastSeries] = ()
    """The forecasts that stood before these days: the historical VaR at 95 %. Days are shown by
    them, and are not judged again yet."""
    lap: int = 0
    """The lap of the replay that the window is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildDone:
    """A partition was rebuilt; the worker that owns it continues from the rebuilt states."""

    version: str
    """The rebuild's version: the prefix of the topics that it wrote."""
    partition: int
    event_time_us: int
