"""The returns of one portfolio that have left its window, read again from the log. Pure.

Batches arrive in the log's order, from some time on; how far the returns moved a price leaves.
Which returns count is decided as for the window, by lap, version, lateness and future.
"""

from collections.abc import Sequence
from math import isfinite

from schemas.events import MovedPrice, Return, ReturnBatch, UnmovedPrice
from schemas.instants import EARLIEST_US, LATEST_US

_CORRECTABLE_MAX = 4_000
"""The most returns before the window that are given as they are: a record holds 5,000."""


class PastReturns:
    """The returns of one lap of a portfolio since a time."""

    def __init__(
        self, portfolio_id: str, since_us: int, *, lap: int, lateness_us: int, ahead_us: float
    ) -> None:
        """Know no return yet.

        Args:
            portfolio_id: the portfolio.
            since_us: returns up to this time are left out.
            lap: the lap of the replay that counts.
            lateness_us: how far behind the newest return a return may be.
            ahead_us: how far ahead of its time in the log a return may be.
        """
        self._portfolio_id = portfolio_id
        self._lap = lap
        self._lateness_us = lateness_us
        self._ahead_us = ahead_us
        self._since_us = since_us
        self._known: dict[int, Return] = {}
        self._newest_us = EARLIEST_US - 1
        self.is_whole = True
        """Whether the log has all returns since that time; the reader of the log sets it."""

    def add(self, batch: ReturnBatch, log_us: int) -> None:
        """Add a batch, which the log got at a time."""
        if batch.lap != self._lap:
            return
        latest_us = min(log_us + self._ahead_us, LATEST_US)
        for observation in batch.returns:
            if observation.portfolio_id == self._portfolio_id:
                self._add(observation, latest_us)

    def _add(self, observation: Return, latest_us: float) -> None:
        _, time_us, value, version = observation
        if not (isfinite(value) and EARLIEST_US <= time_us <= latest_us):
            return
        known = self._known.get(time_us)
        if time_us < self._newest_us - self._lateness_us or (known and known.version >= version):
            return
        self._newest_us = max(self._newest_us, time_us)
        if time_us > self._since_us:
            self._known[time_us] = observation

    def correctable_before(self, first_us: int) -> Sequence[Return]:
        """Return the last returns before a time that may still be corrected, the oldest first."""
        times_us = sorted(
            time_us
            for time_us in self._known
            if self._newest_us - self._lateness_us <= time_us < first_us
        )
        return [self._known[time_us] for time_us in times_us[-_CORRECTABLE_MAX:]]

    def move(self, price: UnmovedPrice, until_us: int) -> MovedPrice:
        """Return how far the returns after a price, up to a time, moved it."""
        until_us = until_us if price.until_us is None else price.until_us
        since_us = price.priced_us
        if not self.is_whole:
            since_us = max(since_us, min(min(self._known, default=until_us + 1) - 1, until_us))
        factor = 1.0
        for time_us in sorted(self._known):
            if since_us < time_us <= until_us:
                factor *= 1 + self._known[time_us].value
        return MovedPrice(self._portfolio_id, price.priced_us, until_us, factor, since_us)
