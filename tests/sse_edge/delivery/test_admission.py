import pytest

from sse_edge.delivery.admission import ConnectionLimits
from sse_edge.errors import TooManyConnections


def test_an_address_holds_as_many_connections_as_its_limit_and_no_more() -> None:
    limits = ConnectionLimits(per_address_max=2, per_user_max=9)
    limits.add("here", None)
    limits.check("here", None)
    limits.add("here", None)
    with pytest.raises(TooManyConnections, match="here holds 2"):
        limits.check("here", None)
    limits.check("there", None)
    limits.remove("here", None)
    limits.check("here", None)


def test_a_user_holds_as_many_connections_as_its_limit_from_all_addresses_together() -> None:
    limits = ConnectionLimits(per_address_max=9, per_user_max=2)
    limits.add("here", "u")
    limits.add("there", "u")
    with pytest.raises(TooManyConnections, match="you hold 2"):
        limits.check("elsewhere", "u")
    limits.check("here", "v")
    limits.check("here", None)
    limits.remove("there", "u")
    limits.check("elsewhere", "u")
