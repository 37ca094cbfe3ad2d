"""The backtest of one portfolio's VaR while returns arrive. Pure.

Each new return is compared with the VaR that was forecast before it, at both levels. A return that
is corrected, or arrives late, is judged again by the forecast that stood before its day; the
forecasts of later days stay as they were published. The tests of the last days are in
`stream_processors.risk.model_tests`.
"""

from collections.abc import Iterator, Mapping, Sequence

from schemas.events import ModelBacktest
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.forecast_history import UNKNOWN, ForecastHistory
from stream_processors.risk.measures import VAR_95, VAR_99, Measurement, finite
from stream_processors.risk.model_tests import (
    ExceptionHistory,
    judge_model,
    shortfall_statistics,
    time_until_first_failure,
)
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
        self._ratios: dict[ConfidenceLevel, tuple[int, Sequence[float] | None]] = {}
        """`_shortfall_ratios` by level, with the number of changes of the exceptions by then."""

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

    def insert(self, at_us: int, value: float, version: int) -> bool:
        """Compare a return that has arrived late with the forecast that stood before its day.

        Returns:
            Whether the day is one of the last, which are kept.
        """
        self._ratios.clear()
        forecast = self.history.insert(at_us, value, version)
        if forecast is None:
            return False
        for days, level in self._levels():
            var = forecast.var(level.number)
            if var is not None:
                later = self.history.days_after(at_us, level.number)
                days.insert(later, exceeded=-value > var)
        return True

    def correct(self, at_us: int, value: float, version: int) -> None:
        """Judge a day again, whose return was corrected."""
        self._ratios.clear()
        forecast = self.history.correct(at_us, value, version)
        if forecast is None:
            return
        for days, level in self._levels():
            var = forecast.var(level.number)
            if var is not None and var != UNKNOWN:
                later = self.history.days_after(at_us, level.number)
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
            light = test.light
            tuff = time_until_first_failure(days.days_until_first, level)
            z1, z2 = self._shortfall_statistics(days, level)
            yield ModelBacktest(
                confidence=level.number,
                observations=test.observations,
                exceptions=test.exceptions,
                zone=test.zone,
                kupiec=test.coverage.ratio,
                kupiec_p=test.coverage.p_value,
                independence=test.independence.ratio,
                independence_p=test.independence.p_value,
                conditional_coverage=test.conditional_coverage.ratio,
                conditional_coverage_p=test.conditional_coverage.p_value,
                days=light.days,
                cumulative_probability=light.cumulative_probability,
                type_1_error=light.type_1_error,
                plus_factor_1996=light.plus_factor_1996,
                basel_multiplier=light.basel_multiplier,
                next_exception_cost_1996=light.next_exception_cost_1996,
                next_exception_cost=light.next_exception_cost,
                tuff=None if tuff is None else tuff.ratio,
                tuff_p=None if tuff is None else tuff.p_value,
                acerbi_szekely_z1=finite(z1),
                acerbi_szekely_z2=finite(z2),
            )

    def _shortfall_statistics(
        self, days: ExceptionHistory, level: ConfidenceLevel
    ) -> tuple[float | None, float | None]:
        """Return Acerbi and Szekely's Z1 and Z2; None where the ES of an exception is unknown."""
        changes, ratios = self._ratios.get(level, (-1, None))
        if changes != days.changes:
            # Rare: the exceptions differ from those of the last event.
            ratios = self._shortfall_ratios(days, level)
            self._ratios[level] = days.changes, ratios
        return (None, None) if ratios is None else shortfall_statistics(ratios, days.count, level)

    def _shortfall_ratios(
        self, days: ExceptionHistory, level: ConfidenceLevel
    ) -> Sequence[float] | None:
        """Return return / ES of each day with an exception; None where an ES is no positive number.

        An ES is unknown where a release that did not keep it has judged the day.
        """
        judged = list(self.history.judged(level.number))[-days.count :]
        exceptions = [(value, es) for value, var, es in judged if -value > var]
        ratios = [value / es for value, es in exceptions if es is not None and es > 0]
        return ratios if len(ratios) == days.exceptions else None

    def _levels(self) -> tuple[tuple[ExceptionHistory, ConfidenceLevel], ...]:
        return (self._at_95, VAR_95), (self._at_99, VAR_99)
