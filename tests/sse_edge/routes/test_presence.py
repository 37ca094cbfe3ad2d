"""Clients that leave a room, and clients that are back before anybody notices."""

import asyncio

import pytest

from sse_edge.routes.presence import Presence, Presences

pytestmark = pytest.mark.virtual_time

BOB = Presence(None, None, "lobby", "", "bob")


class Room:
    """Presences, and who has left."""

    def __init__(self) -> None:
        self.is_draining = False
        self.presences = Presences(5.0, lambda: self.is_draining)
        self.left: list[tuple[str, float]] = []

    async def leave(self, presence: Presence) -> None:
        async def write() -> None:
            self.left.append((presence.name, asyncio.get_running_loop().time()))

        await self.presences.leave(presence, write)


async def test_a_client_that_is_back_in_time_has_neither_left_nor_joined() -> None:
    room = Room()
    assert room.presences.enter(BOB)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(room.leave(BOB))
            await asyncio.sleep(4)
            assert not room.presences.enter(BOB)
    assert room.left == []
    await room.leave(BOB)
    assert room.left == [("bob", 17.0)]
    assert room.presences.enter(BOB)


async def test_a_client_with_two_streams_leaves_with_the_last() -> None:
    room = Room()
    assert [room.presences.enter(BOB), room.presences.enter(BOB)] == [True, False]
    await room.leave(BOB)
    assert room.left == []
    await room.leave(BOB)
    assert room.left == [("bob", 5.0)]


async def test_a_node_that_drains_does_not_wait() -> None:
    room = Room()
    room.presences.enter(BOB)
    room.is_draining = True
    await room.leave(BOB)
    assert room.left == [("bob", 0.0)]


async def test_a_client_without_a_name_is_known_by_its_address_while_it_is_away() -> None:
    room = Room()
    first = Presence(None, None, "lobby", "10.0.0.1", "User-1")
    again = first._replace(name="User-2")
    room.presences.enter(first)
    assert room.presences.find_away(again) is None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(room.leave(first))
        await asyncio.sleep(1)
        assert room.presences.find_away(again) == first
        assert room.presences.find_away(again._replace(address="10.0.0.2")) is None
        assert room.presences.find_away(again._replace(room="other")) is None
    assert room.left == [("User-1", 5.0)]
    assert room.presences.find_away(again) is None


async def test_a_client_that_could_not_be_written_into_its_room_is_not_in_it() -> None:
    room = Room()
    room.presences.enter(BOB)
    room.presences.forget(BOB)
    assert room.presences.enter(BOB)
