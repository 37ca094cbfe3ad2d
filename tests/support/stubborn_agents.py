"""Agents that do whatever an agent should not, for the processes in which agents answer."""

import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from producers.agents.agents import AgentCaller
from producers.errors import AgentError


class Stubborn:
    """Does what the second word of a message says."""

    agent_id = "stubborn"
    name = "Stubborn"
    protocol = "local"
    examples: Sequence[str] = (
        "stubborn spin",
        "stubborn sleep",
        "stubborn power",
        "stubborn exit",
        "stubborn whoami",
    )

    async def answer(self, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
        """Yield the answer, unless the message says otherwise."""
        yield "first "
        how = message.split()[1]
        if how in _BLOCKING:
            _BLOCKING[how]()
        elif how in _YIELDING:
            for piece in _YIELDING[how]():
                yield piece
        else:
            yield f"{os.getpid()} {caller.tenant} {caller.subject}"


def _spin() -> None:
    while True:
        pass


def _refuse() -> None:
    raise AgentError("ask me something else")


def _fail() -> None:
    raise ZeroDivisionError


def _print() -> Iterable[str]:
    print('{"end": "completed"}', flush=True)  # it must not count as a line
    return ["printed"]


_BLOCKING: Mapping[str, Callable[[], object]] = {
    "spin": _spin,
    "sleep": lambda: time.sleep(3_600),
    "power": lambda: 7 ** (10**9),  # one call of the interpreter, for hours
    "exit": lambda: os._exit(3),
    "refuse": _refuse,
    "fail": _fail,
}
_YIELDING: Mapping[str, Callable[[], Iterable[Any]]] = {
    "flood": lambda: repeat("x" * 10_000),
    "number": lambda: [7],
    "print": _print,
}
