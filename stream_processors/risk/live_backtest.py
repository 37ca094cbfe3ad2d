"""The backtest of one portfolio's VaR while returns arrive. Pure.

Each new return is compared with the VaR that was forecast before it, at both levels. A return that
is corrected, or arrives late, is judged again by the forecast that stood before its day; the
forecasts of later days stay as they were published. The tests of the last days are in
`stream_processors.risk.model_tests`.
"""

from collections.abc import Iterator, Mapping

from schemas.events import ModelBacktest
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.forecast_history import UNKNOWN, ForecastHistory
from stream_processors.risk.measures import VAR_95, VAR_99, Measurement
from stream_processors.risk.model_tests import ExceptionHistory, judge_model
from stream_processors.risk.rules import DAYS_JUDGED


class LiveBacktest:
    """The exceptions in a portfolio's last days, at 95 % and 99 %."""

    def __init__(
        self, packed: Mapping[str, str] | None = None, history: ForecastHistory | None = None
    ) -> None:
        """Begin without days, or continue.

        Args:
            packed: what `pack` has returned.
            history: the days with their forecasts, at least `DAYS_JUDGED` of them.
        """
        days = packed or {}
        self._at_95 = ExceptionHistory(DAYS_JUDGED, days.get("0.95", ""))
        self._at_99 = ExceptionHistory(DAYS_JUDGED, days.get("0.99", ""))
        self.history = ForecastHistory(DAYS_JUDGED) if history is None else history

    def pack(self) -> dict[str, str]:
        """Return the days at each level, as `ExceptionHistory` writes them."""
        return {"0.95": str(self._at_95), "0.99": str(self._at_99)}

    def append(self, at_us: int, value: float, version: int, forecast: Measurement | None) -> None:
        """Compare a return that is newer than all others with the forecast before it."""
        if forecast is not None:
            if forecast.var_95 is not None:
                self._at_95.add(exceeded=-value > forecast.var_95)
            if forecast.var_99 is not None:
                self._at_99.add(exceeded=-value > forecast.var_99)
        self.history.append(at_us, value, version, forecast)

    def insert(self, at_us: int, value: float, version: int) -> None:
        """Compare a return that has arrived late with the forecast that stood before its day."""
        forecast = self.history.insert(at_us, value, version)
        if forecast is None:
            return
        for days, level in self._levels():
            var = forecast.var(float(level.confidence))
            if var is not None:
                later = self.history.days_after(at_us, float(level.confidence))
                days.insert(later, exceeded=-value > var)

    def correct(self, at_us: int, value: float, version: int) -> None:
        """Judge a day again, whose return was corrected."""
        forecast = self.history.correct(at_us, value, version)
        if forecast is None:
            return
        for days, level in self._levels():
            var = forecast.var(float(level.confidence))
            if var is not None and var != UNKNOWN:
                later = self.history.days_after(at_us, float(level.confidence))
                days.replace(later, exceeded=-value > var)

    @property
    def exceptions_99(self) -> float | None:
        """The number of exceptions at 99 %; None before there are enough days to judge."""
        days = self._at_99
        return float(days.exceptions) if days.count == DAYS_JUDGED else None

    def events(self) -> Iterator[ModelBacktest]:
        """Yield the tests' results at each level that has been forecast."""
        for days, level in self._levels():
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

    def _levels(self) -> tuple[tuple[ExceptionHistory, ConfidenceLevel], ...]:
        return (self._at_95, VAR_95), (self._at_99, VAR_99)
