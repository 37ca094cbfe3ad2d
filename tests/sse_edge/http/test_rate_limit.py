import pytest

from sse_edge.errors import TooManyRequests
from sse_edge.http.rate_limit import RateLimiter


def test_each_caller_has_a_limit_of_its_own() -> None:
    limiter = RateLimiter(3)
    for _ in range(3):
        limiter.hit("alice")
    with pytest.raises(TooManyRequests, match="3 writes a minute are allowed") as refused:
        limiter.hit("alice")
    assert refused.value.retry_after_s is not None
    assert 1 <= refused.value.retry_after_s <= 60
    limiter.hit("bob")
