"""Routing and arithmetic: what a message is meant for, and what it comes to."""

import asyncio
import sys
import time
import types
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, strategies as st

from kafka_io.settings import ProducerSettings
from producers.agents.agents import (
    BITS_MAX,
    Agent,
    AgentCaller,
    Arithmetic,
    Help,
    agents,
    ask,
)
from producers.agents.router import Router
from producers.errors import AgentError, UnknownAgent

SETTINGS = ProducerSettings()


async def answer_of(agent: Agent, message: str) -> str:
    return "".join([piece async for piece in ask(agent, message, AgentCaller())])


@pytest.mark.parametrize(
    ("message", "agent_id"),
    [
        ("What's 2+2?", "arithmetic"),
        ("please compute 31 * 4 - 7", "arithmetic"),
        ("how much is 12 divided by 3", "arithmetic"),
        ("what is the VaR of GOOG?", "risk"),
        ("is the growth portfolio over its limit", "risk"),
        ("expected shortfall for IBM please", "risk"),
        ("how do I follow a training?", "help"),
        ("which endpoints does this API have", "help"),
    ],
)
def test_messages_it_has_not_seen_reach_who_is_meant(message: str, agent_id: str) -> None:
    route = Router(agents(SETTINGS)).route(message)
    assert route.agent.agent_id == agent_id
    assert 0.4 < route.confidence <= 1
    assert route.agent.name in route.reasoning
    assert f"{route.confidence:.0%}" in route.reasoning


def test_an_agent_has_the_names_that_a_setting_gives_it() -> None:
    named = agents(SETTINGS, names="arithmetic=a2a-math:Math Agent:a2a, help=guide:Guide:local,")
    route = Router(named).route("What's 2+2?")
    agent = route.agent
    assert (agent.agent_id, agent.name, agent.protocol) == ("a2a-math", "Math Agent", "a2a")
    assert "Math Agent" in route.reasoning
    assert {agent.agent_id for agent in named} == {"a2a-math", "risk", "guide"}
    assert agents(SETTINGS)[0].name == "Arithmetic"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("arithmetic", "'arithmetic' is not AGENT=ID:NAME:PROTOCOL"),
        ("arithmetic=a:b", "is not AGENT=ID:NAME:PROTOCOL"),
        ("arithmetic=a::c", "is not AGENT=ID:NAME:PROTOCOL"),
        ("math=a:b:c", "names no agent; there are arithmetic, risk, help"),
    ],
)
def test_a_name_of_no_agent_is_refused(names: str, why: str) -> None:
    with pytest.raises(UnknownAgent, match=why):
        agents(SETTINGS, names=names)


def test_the_reason_names_words_of_the_message() -> None:
    reasoning = Router(agents(SETTINGS)).route("the VaR of a portfolio").reasoning
    assert "'var'" in reasoning or "'portfolio'" in reasoning


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("What's 2+2?", "2+2 = 4"),
        ("what is (3 + 4) / 2", "(3 + 4) / 2 = 3.5"),
        ("how much is 7 times 8, please", "7 * 8 = 56"),
        ("2 to the power of 10", "2 ** 10 = 1024"),
        ("what is 15 percent of 80", "15 / 100 * 80 = 12"),
        ("add 4 and 5", "4 + 5 = 9"),
        ("-3 minus 4", "-3 - 4 = -7"),
    ],
)
async def test_arithmetic_in_numbers_and_in_words(message: str, answer: str) -> None:
    assert await answer_of(Arithmetic(), message) == answer


@given(st.integers(-999, 999), st.sampled_from("+-*"), st.integers(1, 999))
def test_it_is_right(left: int, operator: str, right: int) -> None:
    expected = {"+": left + right, "-": left - right, "*": left * right}[operator]
    answer = asyncio.run(answer_of(Arithmetic(), f"what is {left} {operator} {right}?"))
    assert answer.rsplit("= ", 1)[1] == str(expected)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("what is 1 / 0", "divides by zero"),
        ("hello", "no numbers"),
        ("9 ** 9 ** 9 ** 9", "cannot be evaluated"),
        ("2 +* 3", "cannot be evaluated"),
        ("9**9**9", f"more than {BITS_MAX} bits"),
        ("9**99999", f"more than {BITS_MAX} bits"),
        ("-9**99999", f"more than {BITS_MAX} bits"),
        ("10**2000 * 10**2000", f"more than {BITS_MAX} bits"),
        ("9" * 1_990 + "**2", f"more than {BITS_MAX} bits"),
        ("2**0.5**-99999999", "cannot be evaluated"),
        ("(-8)**0.5", "is not arithmetic"),
        ("(" * 900 + "1" + ")" * 900, "cannot be evaluated"),
        ("-" * 1_990 + "1", "nested too deeply|cannot be evaluated"),
    ],
)
async def test_what_cannot_be_worked_out_says_why_at_once(message: str, why: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(AgentError, match=why) as refused:
        await answer_of(Arithmetic(), message)
    assert time.monotonic() - began_s < 2
    assert len(str(refused.value)) < 1_000


async def test_the_largest_numbers_are_computed() -> None:
    assert await answer_of(Arithmetic(), "2 ** 4000") == f"2 ** 4000 = {2**4000}"
    assert await answer_of(Arithmetic(), "1 ** 99999999999") == "1 ** 99999999999 = 1"
    assert await answer_of(Arithmetic(), "2 ** -3") == "2 ** -3 = 0.125"


@given(st.text(), st.sampled_from("0123456789²٣"), st.text() | st.text("0123456789+-*/.() "))
def test_no_text_does_anything_but_answer_or_refuse(before: str, digit: str, after: str) -> None:
    try:
        answer = asyncio.run(answer_of(Arithmetic(), before + digit + after))
    except AgentError:
        return
    assert " = " in answer


async def test_help_finds_what_is_asked_about() -> None:
    answer = await answer_of(Help(), "how do I follow a training?")
    assert "/trainmodel/stream" in answer
    assert "/chat-stream" not in answer
    assert "/chat-stream" in await answer_of(Help(), "what is there?")


class Greeter:
    agent_id = "greeter"
    name = "Greeter"
    protocol = "local"
    examples = ("hello there", "good morning", "hi, how are you?")

    async def answer(self, message: str) -> AsyncGenerator[str]:
        del message
        yield "Hello "
        yield "to you."


async def test_an_added_agent_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("greeting")
    vars(module)["Greeter"] = Greeter
    monkeypatch.setitem(sys.modules, "greeting", module)
    route = Router(agents(SETTINGS, ["greeting:Greeter"])).route("good morning to you")
    assert route.agent.agent_id == "greeter"
    assert await answer_of(route.agent, "x") == "Hello to you."


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("nowhere:Agent", "is no agent such as package.module:Class"),
        ("producers.agents.agents:Nobody", "is no agent"),
        ("collections:OrderedDict", "has no agent_id, name, protocol, examples, answer"),
    ],
)
def test_what_is_no_agent_is_refused_at_start(where: str, why: str) -> None:
    with pytest.raises(UnknownAgent, match=why):
        agents(SETTINGS, [where])
