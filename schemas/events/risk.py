"""Returns, measures, limits and alerts of portfolios."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.bounds import (
    Bytes,
    Count,
    DerivedId,
    Finite,
    InstantUs,
    Items,
    Lap,
    Name,
    ObservedUs,
    Offset,
    Prefix,
    Real,
    SmallCount,
    SmallInteger,
    SmallOffset,
    Table,
    Text,
)
from schemas.events.stress import StressLoss


class Return(NamedTuple):
    """A simple return of one observation period, as a fraction of net asset value."""

    portfolio_id: Name
    event_time_us: InstantUs
    value: Real
    version: SmallInteger = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnBatch:
    """Returns of portfolios that share a partition, in the order of observation."""

    returns: Items[Return]
    lap: Lap = 0
    """The lap of a replay of past returns; 0 for returns that are observed. A higher lap than that
    of a portfolio's earlier returns begins its history again: the times may be earlier then. At
    most one lap a second since 2020 is taken."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return; 0 for an empty batch."""
        return max((value.event_time_us for value in self.returns), default=0)


class RiskEstimate(NamedTuple):
    """The estimate of one method at one confidence, `horizon` periods ahead."""

    method: Name
    confidence: Finite
    horizon: SmallCount
    status: Name
    as_of_us: InstantUs
    var: Real | None = None
    es: Real | None = None
    scaled: bool = False
    """Whether the estimate is that of one period times the square root of the horizon."""
    domain_ok: bool = True
    """Whether the method is valid for such returns."""
    dof: Real | None = None
    """The degrees of freedom of a Student-t, given or fitted."""
    var_error: Real | None = None
    """The standard error of `var` that comes from the number of scenarios."""
    es_error: Real | None = None
    """The same of `es`."""
    overlapping: bool = False
    """Whether the estimate is of overlapping returns, each as long as the horizon."""
    reason: Name = ""
    """Why a number is missing, such as `not_scaled`."""


class ModelBacktest(NamedTuple):
    """How often losses exceeded the forecast VaR: each test statistic with its p-value."""

    confidence: Finite
    observations: SmallCount
    exceptions: SmallCount
    zone: Name
    kupiec: Real
    kupiec_p: Real
    independence: Real
    independence_p: Real
    conditional_coverage: Real
    conditional_coverage_p: Real
    days: SmallCount = 0
    """The days that the zone is judged by, at most 250; 0 in records of earlier releases."""
    cumulative_probability: Finite = 0.0
    """The probability of at most so many exceptions, if the model is right."""
    type_1_error: Finite = 0.0
    """The probability of at least so many exceptions, if the model is right."""
    plus_factor_1996: Real | None = None
    """The Basel Committee's addition of 1996 to the multiplier of 3; None unless there are 250 days
    at 99 %."""
    basel_multiplier: Real | None = None
    """Today's multiplier, from 1.5 to 2, on the same condition."""
    next_exception_cost_1996: Real | None = None
    """By how much one more exception raises `plus_factor_1996`."""
    next_exception_cost: Real | None = None
    """By how much one more exception raises `basel_multiplier`."""
    tuff: Real | None = None
    """Kupiec's likelihood ratio of the time until the first failure; None without exceptions."""
    tuff_p: Real | None = None
    acerbi_szekely_z1: Real | None = None
    """Acerbi and Szekely's first statistic of expected shortfall; None without exceptions."""
    acerbi_szekely_z2: Real | None = None
    """Their second statistic."""
    restated: bool = False
    """Whether forecasts were computed again after corrections: they never are, since they are what
    was published. Returns are judged again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskMeasure:
    """Risk over a window of returns. VaR and ES are positive losses, as fractions of NAV."""

    portfolio_id: Name
    as_of_us: InstantUs
    method: Name
    status: Name
    observations: SmallCount
    var_95: Real | None = None
    es_95: Real | None = None
    var_99: Real | None = None
    es_99: Real | None = None
    scenario_us: InstantUs | None = None
    threshold: Finite | None = None
    utilisation: Real | None = None
    event_id: DerivedId
    source_topic: Name
    source_partition: SmallOffset
    source_offset: Offset
    volatility: Real | None = None
    drawdown: Real | None = None
    max_drawdown: Real | None = None
    estimates: Items[RiskEstimate] = ()
    model_backtests: Items[ModelBacktest] = ()
    supersedes: DerivedId | None = None
    """The `event_id` of the measure that this one replaces, since a return was corrected or came
    late. It has the same `as_of_us`."""
    status_reason: Text | None = None
    """Why the status is not `ok`."""
    window_first_us: InstantUs | None = None
    """The times of the oldest and the newest return in the window."""
    window_last_us: InstantUs | None = None
    corrections: SmallCount | None = None
    """The number of returns in the window that replaced an earlier version."""
    limits_version: Name | None = None
    """When the limits were set, as RFC 3339; None for the defaults."""
    stress: Items[StressLoss] = ()
    """The loss in each of the tenant's stress scenarios, by the scenario's name."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return in the window."""
        return self.as_of_us


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskHistory:
    """The returns in a portfolio's window, each with the VaR that was forecast before it.

    It is written some seconds after a measure, at most every few seconds for a portfolio.
    """

    portfolio_id: Name
    as_of_us: InstantUs
    observations: SmallCount
    """The number of returns."""
    window: Bytes
    """The event times in microseconds as 64-bit integers, then the returns as 64-bit floats."""
    var_95: Bytes = b""
    """The historical VaR at 95 %, a 64-bit float for each return; NaN where there was none."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return."""
        return self.as_of_us


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskAlert:
    """One transition of an alert, such as raised, escalated, acknowledged or cleared."""

    alert_id: DerivedId
    transition_id: DerivedId
    alert_type: Name
    state: Name
    severity: Name
    message: Text
    metric_name: Name
    metric_value: Finite
    threshold: Finite
    entity_type: Name
    entity_id: Name
    event_time_us: ObservedUs
    level: Name | None = None
    utilisation: Real | None = None
    rule_id: DerivedId | None = None
    scenario_us: InstantUs | None = None
    source_topic: Name | None = None
    source_partition: SmallOffset | None = None
    source_offset: Offset | None = None
    acknowledged: bool = False
    """Whether it is acknowledged, and need not be again; an escalation asks anew."""
    acknowledged_by: Name | None = None
    """The user who acknowledged the alert. It stands in that transition only, as do `comment` and
    `cause`."""
    comment: Text = ""
    cause: Name | None = None
    """`active`, since positions have changed, `passive`, since the market has moved, or a text."""
    limits_version: Name | None = None
    """When the limits that it is judged by were set, as RFC 3339; None for the defaults."""
    limit_until_us: InstantUs | None = None
    """Until when `threshold` holds, if it is a temporary limit."""
    measure_id: DerivedId | None = None
    """The `event_id` of the measure that was judged."""
    supersedes: DerivedId | None = None
    """The `event_id` of the measure that it replaces, if a return was corrected or came late."""
    method: Name | None = None
    status: Name | None = None
    """The status of that measure."""
    status_reason: Text | None = None
    """Why the status is not `ok`."""
    window_first_us: InstantUs | None = None
    """The times of the oldest and the newest return in the window; of a book, the beginning of the
    first day and the time of the newest return."""
    window_last_us: InstantUs | None = None
    observations: SmallCount | None = None
    corrections: SmallCount | None = None
    """The number of returns in the window that replaced an earlier version."""

    @property
    def event_id(self) -> str:
        """The CloudEvents id; a transition that is written again has the same id."""
        return self.transition_id


class RiskLimit(NamedTuple):
    """The limit of one metric of a portfolio."""

    metric: Name
    limit: Finite
    hysteresis: Finite = 0.1
    warn_ratio: Finite | None = None
    critical_ratio: Finite | None = None
    raise_after: SmallInteger = 1
    clear_after: SmallInteger = 1
    temporary_limit: Finite | None = None
    """A higher limit that holds instead until `valid_until_us`."""
    valid_until_us: InstantUs | None = None
    """When the limit falls back, by the log's clock."""
    approved_by: Name | None = None
    """The approver of the temporary limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """The limits of a portfolio from now on. With none, the processors' defaults apply."""

    portfolio_id: Name
    limits: Items[RiskLimit]
    stale_after_s: Finite | None = None
    set_by: Name | None = None
    comment: Text = ""
    event_time_us: ObservedUs
    entity_type: Name = "portfolio"
    """The kind of the entity that `portfolio_id` names; a book's name is ROOT/BOOK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAck:
    """A person acknowledged an alert."""

    alert_id: DerivedId
    entity_id: Name
    by: Name | None = None
    comment: Text = ""
    event_time_us: ObservedUs
    cause: Name | None = None
    """`active`, since positions have changed, `passive`, since the market has moved, or a text."""
    entity_type: Name = "portfolio"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """An alert that is not cleared, after its last transition."""

    alert_id: DerivedId
    entity_id: Name
    alert_type: Name
    rule_id: DerivedId | None = None
    state: Name
    level: Name | None = None
    severity: Name
    message: Text
    acknowledged: bool
    event_time_us: ObservedUs
    tenant: Name | None = None
    acknowledged_by: Name | None = None
    comment: Text = ""
    cause: Name | None = None
    limits_version: Name | None = None
    entity_type: Name = "portfolio"


class WatchState(NamedTuple):
    """The state of one alert rule for a portfolio."""

    rule_id: DerivedId
    level: SmallInteger
    run: Items[SmallInteger]
    run_up: bool
    alert_id: DerivedId | None
    transitions: SmallCount
    judged_us: InstantUs | None
    acknowledged: bool = False


class ForecastSeries(NamedTuple):
    """The forecasts of one method at one confidence, which stood before the days of a backtest."""

    method: Name
    confidence: Finite
    var: Bytes
    """VaR: 64-bit floats, NaN where there was no forecast."""
    es: Bytes
    """Expected shortfall, in the same form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioState:
    """The risk processor's state of a portfolio, with the offsets up to which it has read.

    `times_us` to `versions` hold the window of the first version, before it was packed into
    `window`; `level` to `judged_us` hold its only rule, before there were `watches`.
    """

    portfolio_id: Name
    offset: Offset
    index: SmallOffset
    window: Bytes = b""
    observations: SmallCount = 0
    """The number of returns in the window."""
    times_us: Items[InstantUs] = ()
    values: Items[Real] = ()
    versions: Items[SmallInteger] = ()
    level: SmallInteger = 0
    run: Items[SmallInteger] = ()
    run_up: bool = True
    alert_id: DerivedId | None = None
    transitions: SmallCount = 0
    judged_us: InstantUs | None = None
    outcomes: Table[Count] = field(default_factory=dict)
    watches: Items[WatchState] = ()
    limits: Items[RiskLimit] = ()
    stale_after_s: Finite | None = None
    limits_offset: Offset = -1
    acks_offset: Offset = -1
    variance_sum: Real | None = None
    """The EWMA sum of earlier versions; it is computed from the window now."""
    exceptions: Table[Text] = field(default_factory=dict)
    """By confidence: one character for each of the last days, oldest first; x is an exception."""
    estimates: Items[RiskEstimate] = ()
    """The last estimates of the methods that do not run at every return."""
    cause_us: InstantUs | None = None
    """Time and version of the return that caused the last measure."""
    cause_version: SmallInteger = 0
    partition: SmallOffset = -1
    """The partition of the returns."""
    tenant: Name | None = None
    wanted_by: Table[Name] = field(default_factory=dict)
    """The trees of books that need the returns, with their tenants."""
    backtest_days: Bytes | None = None
    """The times, returns and versions of the last days that are backtested; None where they are the
    days in the window."""
    forecasts: Items[ForecastSeries] = ()
    """The forecasts that stood before these days, by which a day is judged again when its return is
    corrected or arrives late."""
    forecast_times: Bytes | None = None
    """The first day of each forecast, 64-bit integers: it holds until the next one begins. None
    where there is one forecast for each day."""
    lap: SmallCount = 0
    """The lap of the replay that the window is of."""
    arrived_us: InstantUs | None = None
    """When the log got the last accepted return that gave a measure and was no correction."""
    limits_us: InstantUs | None = None
    """Since when limits ask for an alert about missing measures, by the log's clock."""
    limits_version: Name | None = None
    """When the limits were set, as RFC 3339."""
    supersedes: DerivedId | None = None
    """The id of the measure that the last one replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildDone:
    """A partition was rebuilt; the worker that owns it continues from the rebuilt states."""

    version: Prefix
    """The rebuild's version: the prefix of the topics that it wrote."""
    partition: SmallOffset
    event_time_us: InstantUs
