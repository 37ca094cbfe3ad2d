"""The days of a portfolio's backtest: each return with the forecast that stood before it. Pure.

A day's forecast is the historical VaR and ES, at each confidence, of the window before the day. A
return that arrives late has the forecast of the next later day: it was the newest before both of
them. Forecasts are not restated when an earlier return is corrected, since they are what was
published.

Most returns leave VaR and ES as they are. So a forecast is kept once for the days that follow each
other with it, by the time of the first of them.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite, isnan, nan
from typing import NamedTuple

from schemas.events import ForecastSeries
from stream_processors.risk.measures import Measurement

METHOD = "historical"
CONFIDENCES = (0.95, 0.99)

UNKNOWN = inf
"""The VaR of a day that was judged before forecasts of its confidence were kept."""

DAY_BYTES = 24
"""The bytes of a day's time, return and version."""

FORECASTS_MAX = 4_096
"""The most forecasts that are kept, so that the state of the largest window fits in a record. Older
days are shown without one; they are too old to be judged again."""

_DROPPED_MAX = 32
"""Old days are removed in groups of this size: to move all the others is the slowest part."""


class Forecast(NamedTuple):
    """The forecast for a day; None where there was none, and `UNKNOWN` where it was not kept."""

    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None

    def var(self, confidence: float) -> float | None:
        """Return the VaR at a confidence."""
        return self.var_95 if confidence == CONFIDENCES[0] else self.var_99


_NONE = Forecast()
_NOT_KEPT = Forecast(UNKNOWN, None, UNKNOWN, None)


class ForecastHistory:
    """The last days, in ascending order of time, with their forecasts."""

    __slots__ = ("_first_us", "_forecasts", "_last", "_times_us", "_values", "_versions", "size")

    def __init__(self, size: int) -> None:
        """Create an empty history of the last `size` days."""
        self.size = size
        self._times_us, self._values = array("q"), array("d")
        self._versions: dict[int, int] = {}
        """Versions other than 1, by event time."""
        self._first_us: list[int] = []
        """The first day of each forecast."""
        self._forecasts: list[Forecast] = []
        self._last: object = self
        """The measurement whose numbers are the last forecast; itself while that is unknown."""

    def __len__(self) -> int:
        return min(len(self._times_us), self.size)

    @property
    def times_us(self) -> "array[int]":
        """Event times, the oldest first."""
        return self._times_us[-self.size :]

    @property
    def values(self) -> "array[float]":
        """The returns, the oldest first."""
        return self._values[-self.size :]

    @property
    def versions(self) -> Sequence[int]:
        """The versions of the returns, the oldest first."""
        return [self._versions.get(time_us, 1) for time_us in self.times_us]

    def append(self, at_us: int, value: float, version: int, forecast: Measurement | None) -> None:
        """Add a day that is newer than all others.

        Args:
            at_us: the event time of its return.
            value: the return.
            version: the return's version.
            forecast: the measurement before the day; None where there was none.
        """
        if forecast is not self._last:
            self._last = forecast
            numbers = _NONE if forecast is None else Forecast(*forecast[1:])
            if not self._forecasts or numbers != self._forecasts[-1]:
                self._first_us.append(at_us)
                self._forecasts.append(numbers)
                if len(self._forecasts) > FORECASTS_MAX:
                    del self._first_us[1]
                    self._forecasts[:2] = [_NOT_KEPT]
        self._times_us.append(at_us)
        self._values.append(value)
        if version != 1:
            self._versions[at_us] = version
        if len(self._times_us) >= self.size + _DROPPED_MAX:
            self._drop()

    def insert(self, at_us: int, value: float, version: int) -> Forecast | None:
        """Add a day before the newest one.

        Returns:
            The forecast that stood before it; None if it is older than all days that are kept.
        """
        index = bisect_left(self._times_us, at_us)
        if len(self) == self.size and index <= len(self._times_us) - self.size:
            return None
        forecast = self._index_of_forecast(self._times_us[index])
        self._first_us[forecast] = min(self._first_us[forecast], at_us)
        self._times_us.insert(index, at_us)
        self._values.insert(index, value)
        if version != 1:
            self._versions[at_us] = version
        return self._forecasts[forecast]

    def correct(self, at_us: int, value: float, version: int) -> Forecast | None:
        """Replace the return of a day.

        Returns:
            The forecast that stood before it; None if the day is not kept.
        """
        if self.version_of(at_us) is None:
            return None
        self._values[bisect_left(self._times_us, at_us)] = value
        self._versions.pop(at_us, None)
        if version != 1:
            self._versions[at_us] = version
        return self._forecasts[self._index_of_forecast(at_us)]

    def version_of(self, at_us: int) -> int | None:
        """Return the version of a day's return; None if the day is not kept."""
        index = bisect_left(self._times_us, at_us)
        if not len(self._times_us) - len(self) <= index < len(self._times_us):
            return None
        return self._versions.get(at_us, 1) if self._times_us[index] == at_us else None

    def days_after(self, at_us: int, confidence: float) -> int:
        """Return how many days after one have a forecast of VaR at a confidence."""
        days, end = 0, len(self._times_us)
        after = bisect_right(self._times_us, at_us)
        for first_us, forecast in zip(
            reversed(self._first_us), reversed(self._forecasts), strict=True
        ):
            first = max(bisect_left(self._times_us, first_us), after)
            if forecast.var(confidence) is not None:
                days += max(end - first, 0)
            end = min(end, first)
            if end <= after:
                break
        return days

    def judged(self, confidence: float) -> Iterator[tuple[float, float, float | None]]:
        """Yield return, VaR and ES of each day whose forecast at a confidence is known."""
        for value, forecast in zip(self.values, self._by_day(), strict=True):
            var = forecast.var(confidence)
            if var is not None and var != UNKNOWN:
                es = forecast.es_95 if confidence == CONFIDENCES[0] else forecast.es_99
                yield value, var, es

    def var_95_at(self, times_us: Sequence[int]) -> bytes:
        """Return the VaR at 95 % for days, as 64-bit floats; NaN where none is known."""
        known = {
            at_us: forecast.var_95
            for at_us, forecast in zip(self.times_us, self._by_day(), strict=True)
            if forecast.var_95 is not None and isfinite(forecast.var_95)
        }
        return array("d", [known.get(at_us, nan) for at_us in times_us]).tobytes()

    def pack_days(self, window: bytes) -> bytes | None:
        """Return times, returns and versions, `DAY_BYTES` a day.

        Args:
            window: the packed window; None is returned where it has the same days.
        """
        packed = self.times_us.tobytes() + self.values.tobytes()
        if window[: len(packed)] == packed and len(window) in (len(packed), len(packed) * 3 // 2):
            return None
        return packed + array("q", self.versions).tobytes()

    def pack_forecasts(self) -> tuple[bytes, Sequence[ForecastSeries]]:
        """Return the first day of each forecast, and the forecasts by confidence."""
        times_us = self._times_us
        if not times_us:
            return b"", ()
        oldest_us = times_us[-len(self)]
        start = bisect_right(self._first_us, oldest_us) - 1
        first_us = array("q", self._first_us[start:])
        first_us[0] = oldest_us
        columns = [
            array("d", [nan if number is None else number for number in column]).tobytes()
            for column in zip(*self._forecasts[start:], strict=True)
        ]
        return first_us.tobytes(), (
            ForecastSeries(METHOD, CONFIDENCES[0], columns[0], columns[1]),
            ForecastSeries(METHOD, CONFIDENCES[1], columns[2], columns[3]),
        )

    @classmethod
    def restore(
        cls,
        size: int,
        columns: tuple[Sequence[int], Sequence[float], Sequence[int]],
        first_us: bytes,
        forecasts: Sequence[ForecastSeries],
    ) -> "ForecastHistory":
        """Continue from what `pack_days`, unpacked, and `pack_forecasts` have returned."""
        history = cls(size)
        history._set_days(columns)
        history._first_us = list(array("q", first_us))
        numbers = [
            column for series in forecasts for column in (_numbers(series.var), _numbers(series.es))
        ]
        history._forecasts = [Forecast(*row) for row in zip(*numbers, strict=True)]
        if len(history._forecasts) != len(history._first_us):
            raise ValueError(
                f"there are {len(history._forecasts)} forecasts for {len(history._first_us)} times"
            )
        history._drop()
        return history

    @classmethod
    def adopt(
        cls,
        size: int,
        columns: tuple[Sequence[int], Sequence[float], Sequence[int]],
        forecasts: Sequence[ForecastSeries],
        judged: tuple[int, int],
    ) -> "ForecastHistory":
        """Continue from the window of a state that has at most a VaR at 95 % for each day.

        Args:
            size: how many days are kept.
            columns: times, returns and versions.
            forecasts: the VaR for each of them.
            judged: the number of days that were compared with a VaR at 95 % and at 99 %. So many of
                the last days had a forecast, which may not be known any more.
        """
        history = cls(size)
        history._set_days(columns)
        times_us = history._times_us
        count = len(times_us)
        known = next((_numbers(series.var) for series in forecasts if series.var), [None] * count)
        for index, at_us in enumerate(times_us):
            later = count - index
            var_95 = known[index] if len(known) == count else None
            if var_95 is None and later <= judged[0]:
                var_95 = UNKNOWN
            forecast = Forecast(var_95, None, UNKNOWN if later <= judged[1] else None)
            if not history._forecasts or forecast != history._forecasts[-1]:
                history._first_us.append(at_us)
                history._forecasts.append(forecast)
        history._drop()
        return history

    def _set_days(self, columns: tuple[Sequence[int], Sequence[float], Sequence[int]]) -> None:
        times_us, values, versions = columns
        self._times_us, self._values = array("q", times_us), array("d", values)
        self._versions = {
            at_us: version
            for at_us, version in zip(times_us, versions, strict=True)
            if version != 1
        }

    def _index_of_forecast(self, at_us: int) -> int:
        return bisect_right(self._first_us, at_us) - 1

    def _by_day(self) -> Iterable[Forecast]:
        """Yield the forecast for each of the days that are kept."""
        index = -1
        for at_us in self.times_us:
            if index < 0:
                index = self._index_of_forecast(at_us)
            while index + 1 < len(self._first_us) and self._first_us[index + 1] <= at_us:
                index += 1
            yield self._forecasts[index]

    def _drop(self) -> None:
        """Forget all but the last days."""
        dropped = len(self._times_us) - self.size
        if dropped <= 0:
            return
        if self._versions:
            for at_us in self._times_us[:dropped]:
                self._versions.pop(at_us, None)
        del self._times_us[:dropped], self._values[:dropped]
        unused = self._index_of_forecast(self._times_us[0])
        del self._first_us[:unused], self._forecasts[:unused]


def _numbers(packed: bytes) -> list[float | None]:
    return [None if isnan(number) else number for number in array("d", packed)]
