"""Turns: whose answer is next, so that one agent that hangs, or one caller, holds up nobody else.

A caller with a token has at most half of the turns; a tenant, and an agent, all but one. An agent
that has not answered in time has one turn until it answers again, and few messages wait for it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kafka_io.errors import WorkStopped
from producers.agents.agents import Agent, AgentCaller
from producers.errors import AgentError

_LOOK_S = 0.25
"""How often a waiting message looks whether its answer is still needed."""
_WAITING_MAX = 8
"""How many messages wait for an agent that does not answer."""


@dataclass(eq=False)
class _Waiter:
    """A message that waits for its turn."""

    agent_id: str
    caller: AgentCaller
    is_next: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tenant(self) -> object:
        return ("tenant", self.caller.tenant)

    @property
    def user(self) -> object:
        return ("user", self.caller.tenant, self.caller.subject)

    @property
    def agent(self) -> object:
        return ("agent", self.agent_id)


class Turns:
    """The turns of a process's answers; they belong to one event loop."""

    def __init__(self, at_once: int, wait_s: float) -> None:
        """Have no answer in progress.

        Args:
            at_once: how many answers are written at once.
            wait_s: how long a message waits for its turn.
        """
        self._at_once = at_once
        self._wait_s = wait_s
        self._waiting: list[_Waiter] = []
        self._running: Counter[object] = Counter()
        """Answers in progress, by agent, by tenant and by user."""
        self._count = 0
        self._silent: set[str] = set()
        """The agents that have not answered in time since their last answer."""

    @asynccontextmanager
    async def turn(
        self, agent: Agent, caller: AgentCaller, is_stopped: Callable[[], bool]
    ) -> AsyncGenerator[None]:
        """Wait for the turn of a message, and have it in this context.

        Raises:
            AgentError: the agent is too busy; the message is for the user.
            WorkStopped: the answer is no longer needed.
        """
        waiter = _Waiter(agent.agent_id, caller)
        if agent.agent_id in self._silent and self._waiting_for(agent) >= _WAITING_MAX:
            raise AgentError(f"{agent.name} does not answer at present; ask again later")
        self._waiting.append(waiter)
        try:
            self._grant()
            loop = asyncio.get_running_loop()
            deadline_s = loop.time() + self._wait_s
            while not waiter.is_next.is_set():
                if is_stopped():
                    raise WorkStopped("the answer is no longer needed")
                if loop.time() >= deadline_s:
                    raise AgentError(f"{agent.name} has been busy too long; ask again")
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await waiter.is_next.wait()
                except TimeoutError:
                    continue
            yield
        finally:
            if waiter.is_next.is_set():
                self._count -= 1
                self._running -= self._names(waiter)
                self._grant()
            else:
                self._waiting.remove(waiter)

    def answered(self, agent: Agent) -> None:
        """Note that an agent answers."""
        self._silent.discard(agent.agent_id)

    def timed_out(self, agent: Agent) -> None:
        """Note that an agent has not answered in time."""
        self._silent.add(agent.agent_id)

    def _grant(self) -> None:
        """Give free turns to those who wait, first to those with the fewest."""
        while self._count < self._at_once:
            allowed = [waiter for waiter in self._waiting if self._may_begin(waiter)]
            if not allowed:
                return
            waiter = min(allowed, key=self._share_of)
            self._waiting.remove(waiter)
            self._count += 1
            self._running += self._names(waiter)
            waiter.is_next.set()

    def _share_of(self, waiter: _Waiter) -> tuple[int, int]:
        return self._running[waiter.tenant], self._running[waiter.user]

    def _may_begin(self, waiter: _Waiter) -> bool:
        all_but_one = max(1, self._at_once - 1)
        of_agent = 1 if waiter.agent_id in self._silent else all_but_one
        of_tenant = self._at_once if waiter.caller.tenant is None else all_but_one
        of_user = self._at_once if waiter.caller.subject is None else (self._at_once + 1) // 2
        running = self._running
        return (
            running[waiter.agent] < of_agent
            and running[waiter.tenant] < of_tenant
            and running[waiter.user] < of_user
        )

    def _waiting_for(self, agent: Agent) -> int:
        return sum(waiter.agent_id == agent.agent_id for waiter in self._waiting)

    @staticmethod
    def _names(waiter: _Waiter) -> Counter[object]:
        return Counter((waiter.agent, waiter.tenant, waiter.user))
