"""The backtest of one portfolio's VaR while returns arrive. Pure.

Each new return is compared with the VaR that was forecast before it, at both levels; the tests of
the last days are in `stream_processors.risk.model_tests`.
"""

from collections.abc import Iterator, Mapping

from schemas.events import ModelBacktest
from stream_processors.risk.measures import VAR_95, VAR_99, Measurement
from stream_processors.risk.model_tests import ExceptionHistory, judge_model
from stream_processors.risk.rules import DAYS_JUDGED


class LiveBacktest:
    """The exceptions in a portfolio's last days, at 95 % and 99 %."""

    def __init__(self, packed: Mapping[str, str] | None = None) -> None:
        days = packed or {}
        self._at_95 = ExceptionHistory(DAYS_JUDGED, days.get("0.95", ""))
        self._at_99 = ExceptionHistory(DAYS_JUDGED, days.get("0.99", ""))

    def pack(self) -> dict[str, str]:
        """Return the days at each level, as `ExceptionHistory` writes them."""
        return {"0.95": str(self._at_95), "0.99": str(self._at_99)}

    def add(self, forecast: Measurement, value: float) -> None:
        """Compare a return with the forecast before it."""
        if forecast.var_95 is not None:
            self._at_95.add(exceeded=-value > forecast.var_95)
        if forecast.var_99 is not None:
            self._at_99.add(exceeded=-value > forecast.var_99)

    @property
    def exceptions_99(self) -> float | None:
        """The number of exceptions at 99 %; None before there are enough days to judge."""
        days = self._at_99
        return float(days.exceptions) if days.count == DAYS_JUDGED else None

    def events(self) -> Iterator[ModelBacktest]:
        """Yield the tests' results at each level that has been forecast."""
        for days, level in ((self._at_95, VAR_95), (self._at_99, VAR_99)):
            if not days.count:
                continue
            test = judge_model(days.pattern, level)
            yield ModelBacktest(
                confidence=float(level.confidence),
                observations=test.observations,
                exceptions=test.exceptions,
                zone=test.zone,
                kupiec=test.coverage.ratio,
                kupiec_p=test.coverage.p_value,
                independence=test.independence.ratio,
                independence_p=test.independence.p_value,
                conditional_coverage=test.conditional_coverage.ratio,
                conditional_coverage_p=test.conditional_coverage.p_value,
            )
