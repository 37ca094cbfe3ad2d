"""How often one caller may ask for something to be done: so many times in any minute, on a node."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from sse_edge.errors import TooManyRequests


class RateLimiter:
    """Counts requests that write something."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def spend(self, caller: str) -> None:
        """Count one.

        Raises:
            TooManyRequests: there were as many as there may be in the last minute.
        """
        if self._limiter.hit(self._limit, caller):
            return
        again = self._limiter.get_window_stats(self._limit, caller).reset_time
        raise TooManyRequests(
            f"{self._limit.amount} requests a minute are allowed, and that many there were",
            retry_after_s=max(1, math.ceil(again - time.time())),
        )
