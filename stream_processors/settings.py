"""How the processors reach Kafka, measure and judge."""

from typing import Annotated

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stream_processors.risk import RiskConfig
from stream_processors.thresholds import InvalidRule, Rule


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

    batch_within_s: float = Field(default=0.2, gt=0)
    """How long returns are gathered before they are measured: fewer, larger writes of state."""

    batch_records_max: int = Field(default=400, ge=1)
    """Records that one round of measuring takes at most."""

    risk_window: int = Field(default=250, ge=1)
    """Observations in a window: a year of trading days."""

    risk_observations_min: int = Field(default=100, ge=2)
    """Fewer give `insufficient_data`."""

    risk_lateness_s: float = Field(default=7 * 86_400.0, ge=0)
    """How far behind its portfolio's newest return one may be, in event time."""

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

    dashboard_window_s: float = Field(default=1.0, gt=0)
    """Length of the windows of `dashboard_update`."""

    def risk(self) -> RiskConfig:
        """What the pure part needs to know.

        Raises:
            InvalidRule: a limit or ratio has no meaning.
        """
        return RiskConfig(
            window=self.risk_window,
            observations_min=self.risk_observations_min,
            lateness_us=int(self.risk_lateness_s * 1_000_000),
            default_rule=self._rule(self.var_limit),
            rules={name: self._named_rule(name, limit) for name, limit in self.var_limits.items()},
        )

    def _named_rule(self, portfolio_id: str, limit: float) -> Rule:
        try:
            return self._rule(limit)
        except InvalidRule as error:
            raise InvalidRule(f"of {portfolio_id}: {error}") from error

    def _rule(self, limit: float) -> Rule:
        return Rule(
            rule_id="var_95",
            limit=limit,
            hysteresis=self.var_hysteresis,
            warn_ratio=self.var_warn_ratio,
            critical_ratio=self.var_critical_ratio,
        )
