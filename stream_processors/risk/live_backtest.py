"""The backtest of one portfolio's VaR while returns arrive. Pure.

Each new return is compared with the VaR that was forecast before it, at both levels. A return that
is corrected, or arrives late, is judged again by the forecast that stood before its day; the
forecasts of later days stay as they were published. The tests of the last days are in
`stream_processors.risk.model_tests`.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from schemas.events import ModelBacktest
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.forecast_history import UNKNOWN, ForecastHistory
from stream_processors.risk.measures import VAR_95, VAR_99, Measurement, finite
from stream_processors.risk.model_tests import (
    ExceptionHistory,
    Pattern,
    judge_model,
    shortfall_statistics,
    time_until_first_failure,
)
from stream_processors.risk.rules import DAYS_JUDGED


class _Judged(ExceptionHistory):
    """The last days of a portfolio at one level."""

    __slots__ = ("level", "ratios")

    def __init__(self, level: ConfidenceLevel, days: str) -> None:
        super().__init__(DAYS_JUDGED, days)
        self.level = level
        self.ratios: deque[float | None] | None = None
        """Return / ES of each exception, None where the ES is unknown or not positive. None while
        they must be looked up in the history."""

    def judge(self, value: float, var: float, es: float | None) -> None:
        """Compare a return with the forecast before it."""
        exceeded = -value > var
        exceptions = self._exceptions
        if not exceeded and (not exceptions or exceptions[0] > self._day + 1 - self.size):
            self._day += 1  # as `add` would, for nearly every return
            return
        is_oldest_over = self.add(exceeded=exceeded)
        if self.ratios is not None:
            if exceeded:
                self.ratios.append(_ratio(value, es))
            if is_oldest_over:
                self.ratios.popleft()

    @property
    def exceptions_if_full(self) -> float | None:
        """The number of exceptions; None before as many days count as can."""
        return float(len(self._exceptions)) if self._day >= self.size else None

    def shortfall_statistics(self, history: ForecastHistory) -> tuple[float | None, float | None]:
        """Return Acerbi and Szekely's Z1 and Z2; None where the ES of an exception is unknown."""
        if self.ratios is None:
            self.ratios = self._find_ratios(history)
        known = [ratio for ratio in self.ratios if ratio is not None]
        if len(known) < len(self.ratios):
            return None, None
        return shortfall_statistics(known, self.count, self.level)

    def _find_ratios(self, history: ForecastHistory) -> deque[float | None]:
        judged = list(history.judged(self.level.number))[-self.count :]
        found = [_ratio(value, es) for value, var, es in judged if -value > var]
        # Of the oldest days, whose forecasts were not kept, only the number is known.
        lost: list[float | None] = [None] * (self.exceptions - len(found))
        return deque(lost + found)


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
        self._at_95 = _Judged(VAR_95, days.get("0.95", ""))
        self._at_99 = _Judged(VAR_99, days.get("0.99", ""))
        self.history = ForecastHistory(DAYS_JUDGED) if history is None else history

    def pack(self) -> dict[str, str]:
        """Return the days at each level, as `ExceptionHistory` writes them."""
        return {"0.95": str(self._at_95), "0.99": str(self._at_99)}

    def append(self, at_us: int, value: float, version: int, forecast: Measurement | None) -> None:
        """Compare a return that is newer than all others with the forecast before it."""
        if forecast is not None:
            _, var_95, es_95, var_99, es_99 = forecast
            if var_95 is not None:
                self._at_95.judge(value, var_95, es_95)
            if var_99 is not None:
                self._at_99.judge(value, var_99, es_99)
        self.history.append(at_us, value, version, forecast)

    def calm_days(self, forecast: Measurement) -> int:
        """Return how many days whose losses are not above a forecast leave all exceptions."""
        days = self._at_95.calm_days
        return days if forecast.var_99 is None else min(days, self._at_99.calm_days)

    def append_calm(
        self, times_us: Sequence[int], values: Sequence[float], forecast: Measurement
    ) -> None:
        """Add days as by `append`, at most `calm_days`, whose losses are not above the forecast."""
        self._at_95.add_calm(len(times_us))
        if forecast.var_99 is not None:
            self._at_99.add_calm(len(times_us))
        self.history.extend(times_us, values, forecast)

    def insert(self, at_us: int, value: float, version: int) -> bool:
        """Compare a return that has arrived late with the forecast that stood before its day.

        Returns:
            Whether the day is one of the last, which are kept.
        """
        forecast = self.history.insert(at_us, value, version)
        if forecast is None:
            return False
        for judged in self._levels():
            judged.ratios = None
            var = forecast.var(judged.level.number)
            if var is not None:
                later = self.history.days_after(at_us, judged.level.number)
                judged.insert(later, exceeded=-value > var)
        return True

    def correct(self, at_us: int, value: float, version: int) -> None:
        """Judge a day again, whose return was corrected."""
        forecast = self.history.correct(at_us, value, version)
        if forecast is None:
            return
        for judged in self._levels():
            judged.ratios = None
            var = forecast.var(judged.level.number)
            if var is not None and var != UNKNOWN:
                later = self.history.days_after(at_us, judged.level.number)
                judged.replace(later, exceeded=-value > var)

    @property
    def exceptions_99(self) -> float | None:
        """The number of exceptions at 99 %; None before there are enough days to judge."""
        return self._at_99.exceptions_if_full

    def events(self) -> Iterator[ModelBacktest]:
        """Yield the tests' results at each level that has been forecast."""
        for days in self._levels():
            if not days.count:
                continue
            level = days.level
            tuff = time_until_first_failure(days.days_until_first, level)
            z1, z2 = days.shortfall_statistics(self.history)
            yield _of_pattern(days.pattern, level)._replace(
                tuff=None if tuff is None else tuff.ratio,
                tuff_p=None if tuff is None else tuff.p_value,
                acerbi_szekely_z1=finite(z1),
                acerbi_szekely_z2=finite(z2),
            )

    def _levels(self) -> tuple[_Judged, _Judged]:
        return self._at_95, self._at_99


@lru_cache(maxsize=10_000)
def _of_pattern(pattern: Pattern, level: ConfidenceLevel) -> ModelBacktest:
    """Return the results that depend on the pattern of exceptions alone.

    Most measures have the pattern of another one, and an event has many fields.
    """
    test = judge_model(pattern, level)
    light = test.light
    return ModelBacktest(
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
    )


def _ratio(value: float, es: float | None) -> float | None:
    return value / es if es is not None and es > 0 else None
