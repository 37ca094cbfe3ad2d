"""Async tests in virtual time: a wait of fifteen seconds takes none.

A conftest imports the hook below; a test asks for virtual time with the mark `virtual_time`.
"""

import asyncio
from collections.abc import Callable, Mapping

import looptime
import pytest


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give a test the loop that its mark asks for."""
    del config
    if item.get_closest_marker("virtual_time") is None:
        return {"real_time": asyncio.new_event_loop}
    return {"virtual_time": lambda: looptime.new_event_loop(start=0)}
