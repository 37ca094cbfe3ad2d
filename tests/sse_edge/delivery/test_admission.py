import pytest

from sse_edge.delivery.admission import ConnectionLimits
from sse_edge.errors import TooManyConnections


def test_an_address_holds_as_many_connections_as_its_limit_and_no_more() -> None:
    limits = ConnectionLimits(per_address_max=2, per_user_max=9)
    with limits.counted("here", None), limits.counted("here", None):
        with pytest.raises(TooManyConnections, match="here holds 2"):
            limits.check("here", None)
        limits.check("there", None)
    limits.check("here", None)


def test_a_user_holds_as_many_connections_as_its_limit_from_all_addresses_together() -> None:
    limits = ConnectionLimits(per_address_max=9, per_user_max=2)
    with limits.counted("here", "u"), limits.counted("there", "u"):
        with pytest.raises(TooManyConnections, match="you hold 2"):
            limits.check("elsewhere", "u")
        limits.check("here", "v")
        limits.check("here", None)
    limits.check("here", "u")


def test_a_connection_that_fails_is_counted_no_longer() -> None:
    limits = ConnectionLimits(per_address_max=1, per_user_max=1)
    with pytest.raises(ValueError, match="failed"), limits.counted("here", "u"):
        raise ValueError("failed")
    limits.check("here", "u")
