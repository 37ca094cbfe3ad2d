import pytest

from sse_edge.errors import QuotaReached
from sse_edge.http.quotas import refuse_beyond


def test_a_caller_has_as_many_things_as_its_quota_and_may_replace_each() -> None:
    refuse_beyond(2, {"a"}, "b", "books")
    refuse_beyond(2, {"a", "b"}, "b", "books")
    with pytest.raises(QuotaReached, match="there are 2 books, and no more than 2 are allowed"):
        refuse_beyond(2, {"a", "b"}, "c", "books")
