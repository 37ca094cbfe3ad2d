"""How the processors reach Kafka, measure and judge."""

from math import inf
from typing import Annotated

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stream_processors.books.tree import BookConfig
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.estimates import CLOSED, Methods
from stream_processors.risk.methods import Simulation
from stream_processors.risk.portfolio import RiskConfig
from stream_processors.risk.thresholds import InvalidRule, Rule


def _limits(text: object) -> object:
    """Read `AAPL=0.06,IBM=0.035`."""
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
    if not isinstance(text, str):
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


class ProcessorSettings(BaseSettings):
    """Read from the environment: `TAPEWIRE_...`, or the name that a field gives."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """Kafka's addresses, `host:port` with commas between."""

    topic_prefix: str = ""
    """Stands before every topic's name and the consumer group's."""

    worker_id: str = "worker-1"
    """Stable for each worker of a system: a restarted one takes its partitions up at once."""

    rebuild_version: str = Field(default="", pattern=r"^[a-zA-Z0-9_-]*$")
    """Where set, a worker measures everything again beside the others, as `tapewire rebuild` does:
    what it writes goes to topics with this and a dot before their names."""

    batch_within_s: float = Field(default=0.2, gt=0)
    """How long returns are gathered before they are measured: fewer, larger writes of state."""

    batch_records_max: int = Field(default=1_500, ge=1)
    """Records that one round of measuring takes at most."""

    risk_window: int = Field(default=250, ge=1)
    """Observations in a window: a year of trading days."""

    risk_observations_min: int = Field(default=100, ge=2)
    """Fewer give `insufficient_data`."""

    risk_lateness_s: float = Field(default=7 * 86_400.0, ge=0)
    """How far behind its portfolio's newest return one may be, in event time."""

    risk_ahead_s: float = Field(default=inf, ge=0)
    """How far ahead of the log's clock a return may be, in event time; unset: any, as where a past
    is replayed that is moved on to later years."""

    var_limit: float = 0.05
    """What var_95 may be, as a fraction of net asset value."""

    var_limits: Annotated[dict[str, float], NoDecode, BeforeValidator(_limits)] = {}
    """Limits of single portfolios: `AAPL=0.06,IBM=0.035`."""

    var_hysteresis: float = 0.1
    """Share of the limit by which VaR must fall below it before the alert clears."""

    var_warn_ratio: float | None = None
    """Share of the limit from which to warn; unset: no warnings."""

    var_critical_ratio: float | None = None
    """Multiple of the limit from which an alert is critical; unset: never."""

    es_limit: float | None = None
    """What es_95 may be; unset: any."""

    risk_methods: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = (
        "historical",
        *CLOSED,
        "fhs",
        "age_weighted",
    )
    """What is measured: `historical` always is."""

    risk_levels: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = (
        "0.95",
        "0.975",
        "0.99",
    )
    """Confidence levels of the methods."""

    risk_horizons: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_listed)] = (1,)
    """Periods ahead, with commas between."""

    risk_dof: float = 6.0
    """Degrees of freedom of the Student-t method."""

    risk_slower_every: int = 20
    """How many returns of a portfolio lie between two looks at its whole window."""

    risk_periods_a_year: int = Field(default=252, ge=1)
    """What volatility is annualised by: 252 trading days, or 365."""

    risk_draws: int = Field(default=10_000, ge=100, le=1_000_000)
    """Of a Monte Carlo simulation of a book."""

    risk_seed: int = Field(default=0, ge=0)
    """Of these draws."""

    dashboard_windows_s: Annotated[tuple[float, ...], NoDecode, BeforeValidator(_listed)] = (
        1.0,
        10.0,
        60.0,
    )
    """Lengths of the windows of `dashboard_update`, the others multiples of the first."""

    dashboard_lateness_s: float = Field(default=5.0, ge=0)
    """How much later than a window's end something may still be counted in it."""

    def dashboard_windows_us(self) -> tuple[int, ...]:
        """The windows' lengths.

        Raises:
            InvalidInput: one is not positive, or no multiple of the first.
        """
        lengths = tuple(round(length * 1_000_000) for length in self.dashboard_windows_s)
        if not lengths or min(lengths) <= 0 or any(one % lengths[0] for one in lengths):
            raise InvalidInput(
                f"dashboard_windows_s is {','.join(map(str, self.dashboard_windows_s))}; all must "
                "be positive, and the others multiples of the first, as in 1,10,60"
            )
        return lengths

    def written_prefix(self, version: str | None = None) -> str:
        """Stands before the names of the topics that are written, under a version."""
        version = self.rebuild_version if version is None else version
        return f"{self.topic_prefix}{version}." if version else self.topic_prefix

    def books(self) -> BookConfig:
        """How books are measured."""
        return BookConfig(
            window=self.risk_window,
            observations_min=self.risk_observations_min,
            levels=tuple(map(Level.of, self.risk_levels)),
            simulation=Simulation(self.risk_draws, self.risk_seed),
            simulate_every=self.risk_slower_every,
        )

    def risk(self) -> RiskConfig:
        """What the pure part needs to know.

        Raises:
            InvalidRule: a limit or ratio has no meaning.
            InvalidInput: a method, level or horizon has none.
        """
        return RiskConfig(
            window=self.risk_window,
            observations_min=self.risk_observations_min,
            lateness_us=int(self.risk_lateness_s * 1_000_000),
            ahead_us=self.risk_ahead_s * 1_000_000,
            default_rules=self._rules(self.var_limit),
            rules={name: self._named(name, limit) for name, limit in self.var_limits.items()},
            methods=Methods(
                names=self.risk_methods,
                levels=tuple(map(Level.of, self.risk_levels)),
                horizons=self.risk_horizons,
                dof=self.risk_dof,
                slower_every=self.risk_slower_every,
            ),
            periods_a_year=self.risk_periods_a_year,
        )

    def _named(self, portfolio_id: str, limit: float) -> tuple[Rule, ...]:
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
