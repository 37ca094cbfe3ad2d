"""Limits how many requests of one caller may write in a minute, on one node."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from sse_edge.errors import TooManyRequests


class RateLimiter:
    """Counts writes by caller, over a moving window of a minute."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def hit(self, caller: str) -> None:
        """Count a write of a caller.

        Raises:
            TooManyRequests: the caller has reached its limit.
        """
        if self._limiter.hit(self._limit, caller):
            return
        reset_s = self._limiter.get_window_stats(self._limit, caller).reset_time
        raise TooManyRequests(
            f"{self._limit.amount} writes a minute are allowed; wait before the next",
            retry_after_s=max(1, math.ceil(reset_s - time.time())),
        )
