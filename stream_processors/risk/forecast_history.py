"""The VaR that was forecast for each day of a portfolio's window. Pure.

A day's forecast is the historical VaR at 95 % that was published before the day's return arrived. A
late return has none. Measures themselves are kept only until a newer one replaces them, so the last
year of a portfolio is shown from these forecasts.
"""

from array import array
from collections.abc import Iterable, Sequence
from math import nan

from schemas.events import ForecastSeries

METHOD = "historical"
CONFIDENCE = 0.95

_DROPPED_MAX = 32
"""Old days are removed in groups of this size: to move all the others is the slowest part."""


class ForecastHistory:
    """The forecasts of the last days, in ascending order of time."""

    __slots__ = ("_times_us", "_var", "size")

    def __init__(self, size: int) -> None:
        """Create an empty history of the last `size` days."""
        self.size = size
        self._times_us, self._var = array("q"), array("d")

    @classmethod
    def restore(
        cls, size: int, times_us: Iterable[int], forecasts: Sequence[ForecastSeries]
    ) -> "ForecastHistory":
        """Continue from a packed history.

        Args:
            size: how many days are kept.
            times_us: the event times of the window's returns.
            forecasts: what `pack` has returned for the same times.
        """
        history = cls(size)
        for series in forecasts:
            if (series.method, series.confidence) == (METHOD, CONFIDENCE):
                history._times_us, history._var = array("q", times_us), array("d", series.var)
        return history

    def add(self, at_us: int, var: float | None) -> None:
        """Add the forecast for a return that is newer than all others.

        A return that is not newer begins the history anew.

        Args:
            at_us: the event time of the return.
            var: the VaR that was published before it; None where there was none.
        """
        if self._times_us and at_us <= self._times_us[-1]:
            self._times_us, self._var = array("q"), array("d")
        self._times_us.append(at_us)
        self._var.append(nan if var is None else var)
        if len(self._times_us) >= self.size + _DROPPED_MAX:
            del self._times_us[:_DROPPED_MAX]
            del self._var[:_DROPPED_MAX]

    def pack(self, times_us: Sequence[int]) -> Sequence[ForecastSeries]:
        """Return the forecast for each return of the window, NaN where there was none.

        Args:
            times_us: the event times of the window's returns.
        """
        if not self._times_us or not times_us:
            return ()
        count = len(times_us)
        if self._times_us[-count:] == times_us:
            var = self._var[-count:]
        else:  # the first return had no forecast, and a late one has none
            known = dict(zip(self._times_us, self._var, strict=True))
            var = array("d", [known.get(at_us, nan) for at_us in times_us])
        return (ForecastSeries(METHOD, CONFIDENCE, var.tobytes(), b""),)
