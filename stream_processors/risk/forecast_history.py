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
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
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

    __slots__ = (
        "_columns",
        "_first_us",
        "_last",
        "_newest",
        "_times_us",
        "_values",
        "_versions",
        "size",
    )

    def __init__(self, size: int) -> None:
        """Create an empty history of the last `size` days."""
        self.size = size
        self._times_us, self._values = array("q"), array("d")
        self._versions: dict[int, int] = {}
        """Versions other than 1, by event time."""
        self._first_us = array("q")
        """The first day of each forecast."""
        self._columns = array("d"), array("d"), array("d"), array("d")
        """The forecasts, a column for each field of `Forecast`; NaN stands for None."""
        self._newest: Forecast | None = None
        """The last forecast; None before there is one."""
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
        if not self._versions:
            return [1] * len(self)
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
            self._change_forecast(at_us, forecast)
        times_us = self._times_us
        times_us.append(at_us)
        self._values.append(value)
        if version != 1:
            self._versions[at_us] = version
        if len(times_us) >= self.size + _DROPPED_MAX:
            self._drop()

    def extend(
        self, times_us: Sequence[int], values: Sequence[float], forecast: Measurement
    ) -> None:
        """Add days as by `append`, all with one forecast and with version 1."""
        if forecast is not self._last:
            self._change_forecast(times_us[0], forecast)
        self._times_us.extend(times_us)
        self._values.extend(values)
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
        return self._forecast(forecast)

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
        return self._forecast(self._index_of_forecast(at_us))

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
        var = self._columns[_var_column(confidence)]
        for index in reversed(range(len(self._first_us))):
            first = max(bisect_left(self._times_us, self._first_us[index]), after)
            if not isnan(var[index]):
                days += max(end - first, 0)
            end = min(end, first)
            if end <= after:
                break
        return days

    def judged(self, confidence: float) -> Iterator[tuple[float, float, float | None]]:
        """Yield return, VaR and ES of each day that had a forecast at a confidence.

        The VaR is `UNKNOWN`, and the ES None, where the forecast was not kept.
        """
        column = _var_column(confidence)
        var, es = self._columns[column : column + 2]
        values = iter(self.values)
        for index, days in self._runs():
            of_run = islice(values, days)
            if isnan(var[index]):
                deque(of_run, maxlen=0)
                continue
            shortfall = _known(es[index])
            for value in of_run:
                yield value, var[index], shortfall

    def var_95_at(self, times_us: "array[int]") -> bytes:
        """Return the VaR at 95 % for days, as 64-bit floats; NaN where none is known."""
        var = array("d")
        for index, days in self._runs():
            number = self._columns[0][index]
            var.extend(array("d", [number if isfinite(number) else nan]) * days)
        own_us, count = self.times_us, len(times_us)
        if own_us[-count:] == times_us:  # as nearly always: the days are those of the window
            return var[-count:].tobytes()
        known = dict(zip(own_us, var, strict=True))
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
        start = self._index_of_forecast(oldest_us)
        first_us = self._first_us[start:]
        first_us[0] = oldest_us
        columns = [column[start:].tobytes() for column in self._columns]
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
        history._first_us = array("q", first_us)
        packed = [column for series in forecasts for column in (series.var, series.es)]
        for column, numbers in zip(history._columns, packed or [b""] * 4, strict=True):
            column.frombytes(numbers)
            if len(column) != len(history._first_us):
                raise ValueError(
                    f"there are {len(column)} forecasts for {len(history._first_us)} times"
                )
        if history._first_us:
            history._newest = history._forecast(-1)
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
            if forecast != history._newest:
                history._begin(at_us, forecast)
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

    def _change_forecast(self, at_us: int, forecast: Measurement | None) -> None:
        """Note that another measurement is the forecast from a day on."""
        self._last = forecast
        numbers = _NONE if forecast is None else Forecast(*forecast[1:])
        if numbers != self._newest:
            self._begin(at_us, numbers)

    def _begin(self, at_us: int, numbers: Forecast) -> None:
        """Begin with a forecast that differs from the last one, on its first day."""
        self._newest = numbers
        self._first_us.append(at_us)
        for column, number in zip(self._columns, numbers, strict=True):
            column.append(nan if number is None else number)
        if len(self._first_us) > FORECASTS_MAX:
            del self._first_us[1]
            for column, number in zip(self._columns, _NOT_KEPT, strict=True):
                column[:2] = array("d", [nan if number is None else number])

    def _forecast(self, index: int) -> Forecast:
        return Forecast(*(_known(column[index]) for column in self._columns))

    def _index_of_forecast(self, at_us: int) -> int:
        return bisect_right(self._first_us, at_us) - 1

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield the index of each forecast, and for how many of the days it stood."""
        times_us, first_us = self.times_us, self._first_us
        start, count = 0, len(times_us)
        index = self._index_of_forecast(times_us[0]) if count else 0
        while start < count:
            later = index + 1
            end = count if later == len(first_us) else bisect_left(times_us, first_us[later], start)
            yield index, end - start
            start, index = end, later

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
        if unused:
            del self._first_us[:unused]
            for column in self._columns:
                del column[:unused]


def _var_column(confidence: float) -> int:
    """Return the column of the VaR at a confidence; the next one is the ES."""
    return 0 if confidence == CONFIDENCES[0] else 2


def _known(number: float) -> float | None:
    return None if isnan(number) else number


def _numbers(packed: bytes) -> list[float | None]:
    return [_known(number) for number in array("d", packed)]
