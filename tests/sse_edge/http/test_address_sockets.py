from sse_edge.http.address_sockets import AddressSockets


class Socket:
    def __init__(self, *, is_idle: bool = True) -> None:
        self.is_idle = is_idle
        self.is_closed = False

    def close_idle(self) -> None:
        self.is_closed = True


def test_the_socket_that_was_idle_longest_makes_room_for_a_new_one_of_its_address() -> None:
    sockets = AddressSockets()
    sockets.maximum = 2
    first, second, third, other = Socket(), Socket(), Socket(), Socket()
    assert sockets.add("a", first)
    assert sockets.add("a", second)
    assert sockets.add("b", other)
    sockets.used("a", first)
    assert sockets.add("a", third)
    assert [socket.is_closed for socket in (first, second, third, other)] == [
        *(False, True, False, False)
    ]
    assert sockets.closed == 1


def test_an_address_whose_sockets_all_serve_requests_gets_no_other_one() -> None:
    sockets = AddressSockets()
    sockets.maximum = 1
    busy = Socket(is_idle=False)
    assert sockets.add("a", busy)
    assert not sockets.add("a", Socket())
    sockets.remove("a", busy)
    assert sockets.add("a", Socket())


def test_a_socket_that_is_not_counted_is_removed_and_used_without_effect() -> None:
    sockets = AddressSockets()
    sockets.maximum = 1
    sockets.remove("a", Socket())
    held = Socket()
    sockets.add("a", held)
    sockets.remove("a", Socket())
    sockets.used("a", Socket())
    assert sockets.add("a", Socket())
    assert held.is_closed
