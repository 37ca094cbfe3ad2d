import asyncio
import time

import pytest

from schemas.run_ids import Owner
from sse_edge.caller import Caller
from sse_edge.http.session import ResponseSession
from sse_edge.streams.requests import one_channel

pytestmark = pytest.mark.virtual_time


def session(valid_for_s: float | None = None) -> ResponseSession:
    caller = None if valid_for_s is None else Caller("alice", None, time.time() + valid_for_s)
    return ResponseSession(one_channel("alerts", {}), "here", "client", caller)


async def waited_s(opened: ResponseSession, *for_s: float, within_s: float = 1000.0) -> float:
    """Return how long a session waits for sleeps of some seconds."""
    began_s = asyncio.get_running_loop().time()
    await opened.wait(*map(asyncio.sleep, for_s), within_s=within_s)
    return asyncio.get_running_loop().time() - began_s


async def test_a_session_waits_for_a_coroutine_or_for_a_time() -> None:
    assert await waited_s(session(), 5) == pytest.approx(5, abs=0.1)
    assert await waited_s(session(), 50, within_s=9) == pytest.approx(9, abs=0.1)
    assert await waited_s(session(), within_s=9) == pytest.approx(9, abs=0.1)


async def test_a_session_that_leaves_waits_for_nothing_and_is_not_open() -> None:
    opened = session()
    assert opened.is_open
    asyncio.get_running_loop().call_later(3, opened.leave)
    assert await waited_s(opened, 50) == pytest.approx(3, abs=0.1)
    assert not opened.is_open


async def test_a_session_ends_with_its_token() -> None:
    assert session().user is None
    opened = session(valid_for_s=20)
    assert (opened.user, opened.is_open) == (Owner(None, "alice").text, True)
    assert await waited_s(opened, 50) == pytest.approx(20, abs=1)
    assert not session(valid_for_s=-1).is_open
