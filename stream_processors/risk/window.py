"""A rolling window of one portfolio's returns, ordered by event time. Pure.

Returns arrive in any order, perhaps late, again, or corrected by a higher version. The window holds
the last `size` observations by event time, the worst of them sorted, and, if asked for, moments.
Its content is a function of the returns that arrived within the allowed lateness: it does not
depend on their order, and is the same on replay.

Historical VaR and ES depend on the worst returns only, so the others are not sorted, and most
updates compare two numbers.
"""

from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import pairwise
from math import inf, isfinite

from schemas.events import Return, ReturnOutcome
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.moments import RunningMoments

_NUMBER_BYTES = 8

_DROPPED_MAX = 32
"""Returns that have left a window are removed from memory in groups of this size."""
_SPARE = 8
"""How many more of the worst returns are sorted than are needed, so that some may leave."""
_SPARE_MAX = 100
"""How many more than are needed may be sorted before the best of them are dropped."""


APPLIED = (ReturnOutcome.ACCEPTED, ReturnOutcome.CORRECTED)
"""The outcomes that changed the window."""

_ACCEPTED, _REJECTED = ReturnOutcome.ACCEPTED, ReturnOutcome.REJECTED
"""Constants, since access to an enum's members is slow."""


class ReturnWindow:
    """The last `size` returns of one portfolio, by event time."""

    __slots__ = (
        "_dropped",
        "_times_us",
        "_values",
        "_versions",
        "_worst",
        "lowest_moved",
        "moments",
        "size",
    )

    def __init__(self, size: int = 250, *, with_moments: bool = False) -> None:
        """Create an empty window.

        Args:
            size: the most observations that it holds.
            with_moments: whether it also keeps moments.

        Raises:
            InvalidInput: the size is below 1.
        """
        if size < 1:
            raise InvalidInput(f"the window's size is {size}; it must be at least 1")
        self.size = size
        self.moments = RunningMoments() if with_moments else None
        # Arrays take a third of the memory of lists. Dropped returns stay at their beginning for a
        # while: moving all the others is the slowest part of an update.
        self._times_us = array("q")
        self._values = array("d")
        self._dropped = 0
        self._versions: dict[int, int] = {}
        """Versions other than 1, by event time."""
        self._worst: list[float] = []
        """Some of the lowest returns, ascending. All others are not below the last of them."""
        self.lowest_moved = -inf
        """The lower of the two returns that the last update exchanged, the new one and the oldest;
        -inf after any other update. Above -VaR, the update did not touch the tail."""

    @classmethod
    def restore(
        cls,
        size: int,
        times_us: Sequence[int],
        values: Sequence[float],
        versions: Sequence[int],
        *,
        with_moments: bool = False,
    ) -> "ReturnWindow":
        """Create a window from its columns, of which it takes the newest `size` observations.

        Raises:
            ValueError: the columns are no window, as in a row that this system has not written.
        """
        if not len(times_us) == len(values) == len(versions):
            raise ValueError(
                f"the window has {len(times_us)} times, {len(values)} values and "
                f"{len(versions)} versions"
            )
        if any(later <= earlier for earlier, later in pairwise(times_us)):
            raise ValueError("the times of the window do not ascend")
        if not all(map(isfinite, values)):
            raise ValueError("a value in the window is not a finite number")
        window = cls(size, with_moments=with_moments)
        window._times_us = array("q", times_us[-size:])
        window._values = array("d", [value + 0.0 for value in values[-size:]])
        window._versions = {
            time_us: version
            for time_us, version in zip(times_us[-size:], versions[-size:], strict=True)
            if version != 1
        }
        if with_moments:
            window.moments = RunningMoments(window._values)
        return window

    def pack(self) -> bytes:
        """Return times, values and, unless all are 1, versions: 16 or 24 bytes an observation."""
        packed = self.times_us.tobytes() + self.values.tobytes()
        return packed + array("q", self.versions).tobytes() if self._versions else packed

    @staticmethod
    def unpack(packed: bytes, count: int) -> tuple[Sequence[int], Sequence[float], Sequence[int]]:
        """Return times, values and versions of a packed window of `count` observations.

        Raises:
            ValueError: the window has another number of bytes.
        """
        if len(packed) not in (2 * count * _NUMBER_BYTES, 3 * count * _NUMBER_BYTES):
            raise ValueError(f"{len(packed)} bytes are no window of {count} observations")
        times_us, values = array("q", packed[: count * _NUMBER_BYTES]), array("d")
        values.frombytes(packed[count * _NUMBER_BYTES : 2 * count * _NUMBER_BYTES])
        versions = array("q", packed[2 * count * _NUMBER_BYTES :]) or array("q", [1]) * count
        return times_us, values, versions

    @property
    def newest_us(self) -> int:
        """Event time of the newest return; the window must not be empty."""
        return self._times_us[-1]

    @property
    def times_us(self) -> "array[int]":
        """Event times, the oldest first."""
        return self._times_us[self._dropped :]

    @property
    def values(self) -> "array[float]":
        """The returns, the oldest first."""
        return self._values[self._dropped :]

    @property
    def versions(self) -> Sequence[int]:
        """Versions, the oldest observation's first."""
        return [self._versions.get(time_us, 1) for time_us in self.times_us]

    @property
    def corrections(self) -> int:
        """The number of returns that replaced an earlier version: those of version 2 or more."""
        return sum(version > 1 for version in self._versions.values())

    def worst(self, count: int) -> Sequence[float]:
        """Return the `count` worst returns, of which there must be as many, and perhaps more.

        The worst is first. The sequence must not be used after the next update.
        """
        worst = self._worst
        if len(worst) < count:
            worst = self._worst = sorted(self.values)[: count + _SPARE]
        elif len(worst) > count + _SPARE_MAX:
            worst = self._worst = worst[: count + _SPARE]
        return worst

    @property
    def is_constant(self) -> bool:
        """Whether all returns are equal; there must be one at least."""
        worst = self._worst or self.worst(1)
        return worst[0] == worst[-1] == max(self.values)

    def __len__(self) -> int:
        return len(self._values) - self._dropped

    def add(self, observation: Return, *, lateness_us: int) -> ReturnOutcome:
        """Add a return at its place in time.

        Args:
            observation: the return.
            lateness_us: how far behind the newest return it may be.
        """
        times, time_us = self._times_us, observation.event_time_us
        if not times or time_us > times[-1]:
            return self.append(observation)
        self.lowest_moved = -inf
        index = bisect_left(times, time_us, self._dropped)
        known = self._versions.get(time_us, 1) if times[index] == time_us else None
        if known == observation.version:
            return ReturnOutcome.DUPLICATE
        if not isfinite(observation.value):
            return ReturnOutcome.REJECTED
        if time_us < times[-1] - lateness_us:
            return ReturnOutcome.LATE
        if known is not None:
            is_newer = observation.version > known
            return self._correct(index, observation) if is_newer else ReturnOutcome.DUPLICATE
        value = observation.value + 0.0
        times.insert(index, time_us)
        self._values.insert(index, value)
        if observation.version != 1:
            self._versions[time_us] = observation.version
        self._sort_in(value)
        oldest = self._drop_oldest() if len(self) > self.size else None
        if self.moments is not None:
            self.moments.add(value)
            if oldest is not None:
                self.moments.remove(oldest)
        return ReturnOutcome.ACCEPTED

    def scenario_us(self, var: float) -> int:
        """Return the event time of the return that a historical VaR is; of equals, the latest."""
        index = len(self._values) - 1 - self._values[::-1].index(0.0 - var)
        return self._times_us[index]

    def append(self, observation: Return) -> ReturnOutcome:
        """Add a return that is newer than all others, as nearly every return is."""
        _, time_us, value, version = observation
        if not isfinite(value):
            return _REJECTED
        value += 0.0  # -0.0 becomes 0.0: the window's numbers are published
        self._times_us.append(time_us)
        self._values.append(value)
        if version != 1:
            self._versions[time_us] = version
        self._sort_in(value)
        oldest = self._drop_oldest() if len(self) > self.size else None
        self.lowest_moved = -inf if oldest is None else min(value, oldest)
        if self.moments is not None:
            self.moments.add(value)
            if oldest is not None:
                self.moments.remove(oldest)
        return _ACCEPTED

    @property
    def is_full(self) -> bool:
        """Whether each newer return replaces the oldest one."""
        return len(self._values) - self._dropped == self.size

    def oldest(self, count: int) -> "array[float]":
        """Return the oldest returns, at most so many, the oldest first."""
        return self._values[self._dropped : self._dropped + count]

    def append_calm(self, times_us: Sequence[int], values: Sequence[float]) -> None:
        """Add returns of version 1 to a full window, newer than all others and in order of time."""
        count, dropped, worst = len(values), self._dropped, self._worst
        replaced = self._values[dropped : dropped + count]
        if worst and min(*values, *replaced) <= worst[-1]:
            for value, oldest in zip(values, replaced, strict=True):
                self._sort_in(value)
                self._sort_out(oldest)
        if self.moments is not None:
            for value, oldest in zip(values, replaced, strict=True):
                self.moments.add(value)
                self.moments.remove(oldest)
        if self._versions:
            for time_us in self._times_us[dropped : dropped + count]:
                self._versions.pop(time_us, None)
        self._times_us.extend(times_us)
        self._values.extend(values)
        self.lowest_moved = min(values[-1], replaced[-1])
        dropped += count
        if dropped >= _DROPPED_MAX:
            del self._times_us[:dropped], self._values[:dropped]
            dropped = 0
        self._dropped = dropped

    def _correct(self, index: int, observation: Return) -> ReturnOutcome:
        value = observation.value + 0.0
        self._sort_out(self._values[index])
        self._sort_in(value)
        if self.moments is not None:
            self.moments.remove(self._values[index])
            self.moments.add(value)
        self._values[index] = value
        self._versions.pop(observation.event_time_us, None)
        if observation.version != 1:
            self._versions[observation.event_time_us] = observation.version
        return ReturnOutcome.CORRECTED

    def _drop_oldest(self) -> float:
        dropped = self._dropped
        oldest = self._values[dropped]
        self._sort_out(oldest)
        if self._versions:
            self._versions.pop(self._times_us[dropped], None)
        dropped += 1
        if dropped == _DROPPED_MAX:
            del self._times_us[:dropped], self._values[:dropped]
            dropped = 0
        self._dropped = dropped
        return oldest

    def _sort_in(self, value: float) -> None:
        worst = self._worst
        if worst and value < worst[-1]:
            insort(worst, value)

    def _sort_out(self, value: float) -> None:
        worst = self._worst
        if worst and value <= worst[-1]:
            del worst[bisect_left(worst, value)]
