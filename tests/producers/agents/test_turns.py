import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from kafka_io.errors import WorkStopped
from producers.agents.agents import AgentCaller
from producers.agents.turns import Turns
from producers.errors import AgentError

pytestmark = pytest.mark.virtual_time

WAIT_S = 60.0


class Mute:
    """An agent by its name alone."""

    protocol = "local"
    examples: Sequence[str] = ()

    def __init__(self, name: str) -> None:
        self.agent_id = self.name = name

    async def answer(self, message: str) -> AsyncGenerator[str]:
        yield message


SLOW, QUICK = Mute("Slow"), Mute("Quick")


class Answers:
    """Messages that are being answered, or wait for their turns."""

    def __init__(self, turns: Turns, tasks: asyncio.TaskGroup) -> None:
        self.turns = turns
        self._tasks = tasks
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.is_stopped = False
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(
        self, name: str, agent: Mute = QUICK, user: str | None = None, tenant: str | None = None
    ) -> None:
        """Ask for an answer, and let it begin if it may."""
        self._ends[name] = asyncio.Event()
        self._tasks.create_task(self._answer(name, agent, AgentCaller(tenant, user)))
        await self.settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _answer(self, name: str, agent: Mute, caller: AgentCaller) -> None:
        try:
            async with self.turns.turn(agent, caller, lambda: self.is_stopped):
                self.begun.append(name)
                await self._ends[name].wait()
        except AgentError as error:
            self.refused.append(f"{name}: {error}")
        except WorkStopped:
            self.refused.append(f"{name}: stopped")

    async def end_all(self) -> None:
        for end in self._ends.values():
            end.set()
        await self.settle()


async def test_a_user_has_at_most_half_of_the_turns() -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(Turns(4, WAIT_S), tasks)
        for number in range(4):
            await answers.ask(f"alice {number}", user="alice")
        await answers.ask("bob", user="bob")
        assert answers.begun == ["alice 0", "alice 1", "bob"]
        await answers.end("alice 0")
        assert answers.begun[3:] == ["alice 2"]
        await answers.end_all()
        assert len(answers.begun) == 5


async def test_an_agent_and_a_tenant_leave_a_turn_to_others() -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(Turns(3, WAIT_S), tasks)
        for number in range(3):
            await answers.ask(f"slow {number}", SLOW)
        await answers.ask("quick")
        assert answers.begun == ["slow 0", "slow 1", "quick"]
        await answers.end_all()
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(Turns(3, WAIT_S), tasks)
        for number, agent in enumerate((SLOW, QUICK, SLOW)):
            await answers.ask(f"acme {number}", agent, f"user {number}", "acme")
        await answers.ask("other", SLOW, "user 0", "other")
        assert answers.begun == ["acme 0", "acme 1", "other"]
        await answers.end_all()


async def test_a_free_turn_goes_to_who_has_the_fewest() -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(Turns(4, WAIT_S), tasks)
        for name in ("a0", "a1"):
            await answers.ask(name, user="a", tenant="acme")
        for name in ("b0", "c0"):
            await answers.ask(name, SLOW, name[0], name[0])
        for user, tenant in (("b", "acme"), ("a", "acme"), ("d", "d")):
            await answers.ask(f"{user} waits", SLOW, user, tenant)
        await answers.end("b0")
        await answers.end("c0")
        assert answers.begun == ["a0", "a1", "b0", "c0", "d waits", "b waits"]
        await answers.end_all()


async def test_an_agent_that_did_not_answer_in_time_has_one_turn_until_it_does() -> None:
    async with asyncio.TaskGroup() as tasks:
        turns = Turns(4, WAIT_S)
        answers = Answers(turns, tasks)
        turns.timed_out(SLOW)
        for number in range(12):
            await answers.ask(f"slow {number}", SLOW)
        assert answers.begun == ["slow 0"]
        assert answers.refused == [
            f"slow {number}: Slow does not answer at present; ask again later"
            for number in (9, 10, 11)
        ]
        turns.answered(SLOW)
        await answers.end("slow 0")
        assert answers.begun == ["slow 0", "slow 1", "slow 2", "slow 3"]
        await answers.end_all()


async def test_a_message_waits_for_its_turn_so_long_and_not_beyond_its_need() -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(Turns(1, WAIT_S), tasks)
        await answers.ask("first")
        await answers.ask("second")
        await asyncio.sleep(WAIT_S + 1)
        assert answers.refused == ["second: Quick has been busy too long; ask again"]
        await answers.ask("third")
        answers.is_stopped = True
        await asyncio.sleep(1)
        assert answers.refused[1:] == ["third: stopped"]
        await answers.end("first")
        await answers.ask("fourth")
        assert answers.begun == ["first", "fourth"]
        await answers.end_all()


async def test_one_turn_serves_everybody_in_order() -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(Turns(1, WAIT_S), tasks)
        for name in ("a", "b", "c"):
            await answers.ask(name, SLOW, name, "acme")
        for name in ("a", "b", "c"):
            assert answers.begun[-1] == name
            await answers.end(name)


async def test_a_waiting_message_that_is_cancelled_takes_no_turn() -> None:
    turns = Turns(1, WAIT_S)
    async with turns.turn(QUICK, AgentCaller(), lambda: False):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5), turns.turn(QUICK, AgentCaller(), lambda: False):
                pytest.fail("there is one turn only")
    async with asyncio.timeout(5), turns.turn(QUICK, AgentCaller(), lambda: False):
        pass
