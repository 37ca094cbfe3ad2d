from sse_edge.delivery.admission import ConnectionLimits, SocketBudget


def message(limits: ConnectionLimits, address: str, user: str | None) -> str | None:
    limit = limits.reached(address, user)
    return None if limit is None else limit.message


def test_an_address_holds_as_many_connections_as_its_limit_and_no_more() -> None:
    limits = ConnectionLimits(per_address_max=2, per_user_max=9)
    first = limits.take("here", None)
    assert limits.reached("here", None) is None
    limits.take("here", None)
    assert message(limits, "here", None) == "here holds 2 connections; no more are allowed"
    assert limits.reached("there", None) is None
    first.release()
    assert limits.reached("here", None) is None
    first.release()
    limits.take("here", None)
    assert limits.reached("here", None) is not None


def test_a_user_holds_as_many_connections_as_its_limit_from_all_addresses_together() -> None:
    limits = ConnectionLimits(per_address_max=9, per_user_max=2)
    limits.take("here", "u")
    second = limits.take("there", "u")
    assert message(limits, "elsewhere", "u") == "you hold 2 connections; no more are allowed"
    assert limits.reached("elsewhere", "v") is None
    assert limits.reached("here", None) is None
    second.release()
    assert limits.reached("elsewhere", "u") is None


def test_users_of_one_address_take_no_place_from_each_other() -> None:
    limits = ConnectionLimits(per_address_max=1, per_user_max=1)
    for user in ("u", "v", None):
        assert limits.reached("here", user) is None
        limits.take("here", user)
        assert limits.reached("here", user) is not None


def test_a_limit_counts_the_connections_of_its_address_or_of_its_user() -> None:
    limits = ConnectionLimits(per_address_max=1, per_user_max=1)
    limits.take("here", "u")
    limits.take("here", None)
    of_address, of_user = limits.reached("here", None), limits.reached("there", "u")
    assert of_address is not None
    assert of_user is not None
    pairs = (("here", None), ("here", "u"), ("there", "u"), ("there", None))
    assert [of_address.counts(*pair) for pair in pairs] == [True, False, False, False]
    assert [of_user.counts(*pair) for pair in pairs] == [False, True, True, False]


def test_a_socket_that_gives_way_leaves_room_for_another_stream() -> None:
    sockets = SocketBudget(maximum=64, open=49)
    assert not sockets.has_room
    sockets.closing = 1
    assert sockets.has_room
