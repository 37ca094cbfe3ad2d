"""How returns are measured and judged: the settings of the calculations, without an environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from stream_processors.risk.estimates import Methods
from stream_processors.risk.thresholds import Rule


@dataclass(frozen=True, slots=True)
class RiskConfig:
    """The configuration that all portfolios share, and the rules of single ones."""

    window: int
    """The observations in a window."""
    observations_min: int
    """The fewest observations that are measured."""
    lateness_us: int
    """How far behind its portfolio's newest return a return may be."""
    default_rules: tuple[Rule, ...]
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """The rules of portfolios that do not have the default ones, by portfolio."""
    methods: Methods = field(default_factory=Methods)
    periods_a_year: int = 252
    """The observation periods in a year, for the volatility."""
    ahead_us: float = inf
    """How far ahead of the log's clock a return may be."""

    def rules_of(self, portfolio_id: str) -> tuple[Rule, ...]:
        """Return the rules of a portfolio for which no limits were put."""
        return self.rules.get(portfolio_id, self.default_rules)
