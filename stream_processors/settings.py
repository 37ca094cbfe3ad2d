"""The settings of the processors: Kafka, batches, risk, and the dashboard's windows."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from kafka_io.log_lines import LogFormat
from kafka_io.settings import LogLevel, MetricsSettings, Release, TopicPrefix
from schemas.bounds import NAME_CHARS_MAX
from schemas.calendars import parse_calendar
from stream_processors.books.config import BookConfig
from stream_processors.books.days import MissingPolicy
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import CLOSED, METHODS, Methods
from stream_processors.risk.methods import Simulation
from stream_processors.risk.moments import DECAY
from stream_processors.risk.thresholds import InvalidRule, Rule

WINDOW_MAX = 20_000
"""The largest window. An observation takes up to 32 bytes of a portfolio's state, which must fit in
a record of 1 MiB together with the estimates."""
_HORIZONS_MAX = 32
_LEVELS_MAX = 16
_TEN_YEARS_S = 10 * 365 * 86_400.0
_LIMIT_MAX = 1_000.0


def _method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(f"{name!r} is no method; there are {', '.join(METHODS)}")
    return name


def _level(text: str) -> str:
    ConfidenceLevel.of(text)
    return text


def _calendar(text: str) -> str:
    parse_calendar(text)
    return text


def _missing(text: str) -> str:
    MissingPolicy.parse(text)
    return text


def _limits(text: object) -> object:
    """Parse limits such as `AAPL=0.06,IBM=0.035`."""
    if not isinstance(text, str):
        return text
    limits = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, limit = pair.rpartition("=")
        try:
            limits[name] = float(limit)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise ValueError(f"{pair!r} is no limit; write PORTFOLIO=FRACTION, as in IBM=0.035")
    return limits


def _listed(text: object) -> object:
    """Split a text at its commas."""
    if not isinstance(text, str):
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


class ProcessorSettings(MetricsSettings):
    """Read from the environment, as `TAPEWIRE_` and the name, or as the alias that a field has."""

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """Addresses of Kafka brokers, as `host:port` separated by commas."""

    topic_prefix: TopicPrefix = ""
    """A prefix of the names of all topics and of the consumer group."""

    work_dir: Path | None = None
    """The folder of Faust's own files, which holds no data; unset, a new one for this user only.
    `tapewire up` sets it to a folder of the data directory."""

    log_level: LogLevel = "INFO"
    """The least severe lines that are logged: DEBUG, INFO, WARNING or ERROR."""

    log_format: LogFormat = "text"
    """How lines are logged: text, or json, an object a line."""

    write_as_release: Release | None = None
    """The earlier release, such as 0.1.0, whose schema versions are written, while parts of that
    release run. Unset: the newest versions."""

    worker_id: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    """A name that each worker of a system keeps: a restarted worker gets its partitions at once.
    Unset, it is `worker-` and the name of the host; several workers on one host need each its own,
    of letters, digits, dots, hyphens and underscores."""

    rebuild_version: str = Field(default="", pattern=r"^[a-zA-Z0-9_-]*$")
    """If set, the worker measures all returns anew beside the running workers, and writes to topics
    whose names begin with this version and a dot; `tapewire rebuild` sets it."""

    rebuild_tenant: str | None = None
    """The tenant whose portfolios a rebuild computes; empty for those of no tenant, unset for all.
    `tapewire rebuild` sets it."""

    rebuild_erased: str = Field(default="", pattern=r"^([0-9a-f]{64}=[0-9]{1,18}(,|$))*$")
    """The tenants whose earlier records a rebuild passes over, since they were erased: the SHA-256
    of each name, `=`, and microseconds since 1970. `tapewire rebuild` sets it."""

    rebuild_portfolio: str = ""
    """The portfolio that a rebuild computes; empty for all. `tapewire rebuild` sets it."""

    rebuild_books: bool = False
    """Whether the worker of a rebuild measures books, and not portfolios. `tapewire rebuild` sets
    it."""

    batch_within_s: float = Field(default=0.2, ge=0.001, le=60)
    """How long returns are collected into a batch; longer means fewer writes of state."""

    batch_records_max: int = Field(default=10_000, ge=1, le=100_000)
    """The most records in a batch of returns; one of 8 MiB ends, too."""

    risk_window: int = Field(default=250, ge=2, le=WINDOW_MAX)
    """Observations in a window; 250 are a year of trading days. A portfolio's state must fit in a
    record."""

    risk_observations_min: int = Field(default=100, ge=2, le=WINDOW_MAX)
    """The fewest observations that are measured; fewer give the status `insufficient_data`."""

    risk_lateness_s: float = Field(default=7 * 86_400.0, ge=0, le=_TEN_YEARS_S)
    """How far behind its portfolio's newest return a return may be, in event time."""

    ahead_s: float = Field(default=86_400.0, ge=0, le=1e12)
    """How far ahead of its time in the log the time of an event may be; 1e12 allows any time."""

    risk_ahead_s: float | None = Field(default=None, ge=0, le=1e12)
    """How far ahead of its time in the log a return may be; unset: as far as other events."""

    var_limit: float = Field(default=0.05, gt=0, le=_LIMIT_MAX)
    """The limit of var_95, as a fraction of net asset value."""

    var_limits: Annotated[
        dict[str, Annotated[float, Field(gt=0, le=_LIMIT_MAX)]], NoDecode, BeforeValidator(_limits)
    ] = Field(default={})
    """Limits of var_95 for single portfolios, as `AAPL=0.06,IBM=0.035`."""

    var_hysteresis: float = Field(default=0.1, ge=0, lt=1)
    """The share of a limit by which VaR must fall below it before the alert clears."""

    var_warn_ratio: float | None = Field(default=None, gt=0, lt=1)
    """The share of a limit above which an alert warns; unset: no warnings."""

    var_critical_ratio: float | None = Field(default=None, gt=1, le=_LIMIT_MAX)
    """The multiple of a limit above which an alert is critical; unset: never."""

    es_limit: float | None = Field(default=None, gt=0, le=_LIMIT_MAX)
    """The limit of es_95, as a fraction of net asset value; unset: none."""

    risk_methods: Annotated[
        tuple[Annotated[str, AfterValidator(_method)], ...], NoDecode, BeforeValidator(_listed)
    ] = (
        "historical",
        *CLOSED,
        "fhs",
        "age_weighted",
    )
    """The methods of the estimates; `var_95` and the like always use the historical one."""

    risk_levels: Annotated[
        tuple[Annotated[str, AfterValidator(_level)], ...],
        NoDecode,
        BeforeValidator(_listed),
        Field(max_length=_LEVELS_MAX),
    ] = (
        "0.95",
        "0.975",
        "0.99",
    )
    """The confidence levels of the estimates."""

    risk_horizons: Annotated[
        tuple[Annotated[int, Field(ge=1, le=WINDOW_MAX)], ...],
        NoDecode,
        BeforeValidator(_listed),
        Field(min_length=1, max_length=_HORIZONS_MAX),
    ] = (1,)
    """The horizons of the estimates, in observation periods."""

    risk_overlapping: bool = False
    """Whether methods whose estimates do not grow by the root of the horizon use overlapping
    returns for horizons over 1. Unset, these estimates have no number: `not_scaled`."""

    risk_dof: float = Field(default=6.0, gt=2, le=1e15)
    """Degrees of freedom of the Student-t method; with many it is the normal one."""

    risk_mean: Literal["sample", "zero"] = "sample"
    """The mean of the normal method: the sample's, or zero, with the root mean square as
    deviation."""

    risk_ewma_start: float | None = Field(default=None, ge=0, le=1e6)
    """The deviation of the EWMA method before the window's first return; unset: weights that sum to
    one over the window."""

    risk_ewma_decay: float = Field(default=DECAY, gt=0, lt=1)
    """How much of the variance's weight stays from one return to the next in the EWMA method and in
    filtered historical simulation. RiskMetrics takes 0.94 for daily returns, 0.97 for monthly
    ones."""

    risk_slower_every: int = Field(default=20, ge=1, le=100_000)
    """A portfolio's returns between two estimates that look at its whole window."""

    risk_periods_a_year: int = Field(default=252, ge=1, le=31_536_000)
    """Observation periods in a year, for the volatility: 252 trading days, or 365."""

    risk_draws: int = Field(default=10_000, ge=100, le=1_000_000)
    """The number of draws in a Monte Carlo simulation of a book."""

    risk_seed: int = Field(default=0, ge=0, le=(1 << 63) - 1)
    """The seed of the Monte Carlo simulations."""

    books_calendar: Annotated[str, Field(max_length=NAME_CHARS_MAX), AfterValidator(_calendar)] = (
        "UTC"
    )
    """The calendar that dates the returns of books, for trees that state none: a time zone and,
    unless days end at midnight, the time at which they do, as in `America/New_York 17:00`."""

    books_missing: Annotated[str, Field(max_length=NAME_CHARS_MAX), AfterValidator(_missing)] = (
        "drop_day"
    )
    """The rule for days on which only some series of a book have a return, for books that state
    none: `drop_day` leaves the day out, `zero` takes a return of 0, and `proxy:SERIES` takes
    the return of another series."""

    dashboard_windows_s: Annotated[
        tuple[Annotated[float, Field(ge=0.1, le=86_400)], ...],
        NoDecode,
        BeforeValidator(_listed),
        Field(min_length=1, max_length=8),
    ] = (
        1.0,
        10.0,
        60.0,
    )
    """The lengths of the dashboard's windows; all are multiples of the first."""

    dashboard_lateness_s: float = Field(default=5.0, ge=0, le=86_400)
    """How much later than its window's end an event is still counted in the window."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.risk_window < self.risk_observations_min:
            raise ValueError(
                f"TAPEWIRE_RISK_WINDOW is {self.risk_window}; it must be at least "
                f"TAPEWIRE_RISK_OBSERVATIONS_MIN, which is {self.risk_observations_min}, or "
                "nothing would ever be measured"
            )
        if max(self.risk_horizons) > self.risk_window:
            raise ValueError(
                f"TAPEWIRE_RISK_HORIZONS has {max(self.risk_horizons)}; a horizon must be at most "
                f"TAPEWIRE_RISK_WINDOW, which is {self.risk_window}"
            )
        self.dashboard_windows_us()
        return self

    def dashboard_windows_us(self) -> tuple[int, ...]:
        """Return the lengths of the dashboard's windows.

        Raises:
            InvalidInput: a length is not positive, or not a multiple of the first.
        """
        lengths = tuple(round(length * 1_000_000) for length in self.dashboard_windows_s)
        if not lengths or min(lengths) <= 0 or any(length % lengths[0] for length in lengths):
            raise InvalidInput(
                "TAPEWIRE_DASHBOARD_WINDOWS_S is "
                f"{','.join(map(str, self.dashboard_windows_s))}; all must "
                "be positive, and the others multiples of the first, as in 1,10,60"
            )
        return lengths

    def ahead_us(self) -> float:
        """Return how far ahead of its time in the log an event may be, in microseconds."""
        return self.ahead_s * 1_000_000

    def written_prefix(self, version: str | None = None) -> str:
        """Return the prefix of topics written under a version, by default this worker's."""
        version = self.rebuild_version if version is None else version
        return f"{self.topic_prefix}{version}." if version else self.topic_prefix

    def book_config(self) -> BookConfig:
        """Return how books are measured."""
        return BookConfig(
            window=self.risk_window,
            observations_min=self.risk_observations_min,
            levels=tuple(map(ConfidenceLevel.of, self.risk_levels)),
            simulation=Simulation(self.risk_draws, self.risk_seed),
            simulate_every=self.risk_slower_every,
            lateness_us=int(self.risk_lateness_s * 1_000_000),
            calendar=parse_calendar(self.books_calendar),
            missing=self.books_missing,
        )

    def risk_config(self) -> RiskConfig:
        """Return how portfolios are measured and judged.

        Raises:
            InvalidRule: a limit or ratio is out of its range.
            InvalidInput: a method, level or horizon is.
        """
        return RiskConfig(
            window=self.risk_window,
            observations_min=self.risk_observations_min,
            lateness_us=int(self.risk_lateness_s * 1_000_000),
            ahead_us=(self.ahead_s if self.risk_ahead_s is None else self.risk_ahead_s) * 1_000_000,
            default_rules=self._rules(self.var_limit),
            rules={name: self._rules_of(name, limit) for name, limit in self.var_limits.items()},
            methods=Methods(
                names=self.risk_methods,
                levels=tuple(map(ConfidenceLevel.of, self.risk_levels)),
                horizons=self.risk_horizons,
                dof=self.risk_dof,
                mean=self.risk_mean,
                ewma_start=self.risk_ewma_start,
                ewma_decay=self.risk_ewma_decay,
                overlapping=self.risk_overlapping,
                slower_every=self.risk_slower_every,
            ),
            periods_a_year=self.risk_periods_a_year,
        )

    def _rules_of(self, portfolio_id: str, limit: float) -> tuple[Rule, ...]:
        try:
            return self._rules(limit)
        except InvalidRule as error:
            raise InvalidRule(f"of {portfolio_id}: {error}") from error

    def _rules(self, var_limit: float) -> tuple[Rule, ...]:
        rules = (self._rule("var_95", var_limit),)
        return rules if self.es_limit is None else (*rules, self._rule("es_95", self.es_limit))

    def _rule(self, rule_id: str, limit: float) -> Rule:
        return Rule(
            rule_id=rule_id,
            limit=limit,
            hysteresis=self.var_hysteresis,
            warn_ratio=self.var_warn_ratio,
            critical_ratio=self.var_critical_ratio,
        )
