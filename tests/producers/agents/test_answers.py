"""The lines that an answer becomes, in the process that gives it."""

import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import producers
from producers import broadcaster
from producers.agents.answers import PIECE_CHARS_MAX, end_of
from tests.support.stubborn_agents import Stubborn

REQUEST = {"tenant": "acme", "subject": "alice"}


class Old(Stubborn):
    """An agent of the signature without a caller."""

    async def answer(self, message: str) -> AsyncGenerator[str]:  # type: ignore[override]
        """Yield the message twice."""
        yield message
        yield message


async def lines(agent: Any, message: str) -> list[dict[str, object]]:
    written: list[dict[str, object]] = []
    end = await end_of(agent, REQUEST | {"message": message}, written.append)
    return [*written, end]


async def test_an_agent_knows_its_caller() -> None:
    *_, piece, end = await lines(Stubborn(), "stubborn whoami")
    assert str(piece["piece"]).endswith(" acme alice")
    assert end == {"end": "completed"}


async def test_an_agent_of_the_signature_without_a_caller_answers_as_before() -> None:
    assert await lines(Old(), "hello") == [{"piece": "hello"}] * 2 + [{"end": "completed"}]


@pytest.mark.parametrize(
    ("message", "end"),
    [
        ("stubborn refuse", {"end": "refused", "text": "ask me something else"}),
        ("stubborn fail", {"end": "failed"}),
        ("stubborn number", {"end": "failed"}),
    ],
)
async def test_an_answer_that_is_none_has_an_end(message: str, end: dict[str, object]) -> None:
    assert await lines(Stubborn(), message) == [{"piece": "first "}, end]


async def test_a_long_piece_is_divided() -> None:
    [first, second, *_] = await lines(Old(), "x" * (PIECE_CHARS_MAX + 1))
    assert [len(str(line["piece"])) for line in (first, second)] == [PIECE_CHARS_MAX, 1]


def test_a_process_of_answers_starts_without_a_client_of_kafka() -> None:
    program = """
import sys
import producers.agents.answers
print({"aiokafka", "confluent_kafka", "producers.broadcaster"} & set(sys.modules))
"""
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_reporter_api_is_there_when_it_is_used() -> None:
    assert producers.SSEBroadcaster is broadcaster.SSEBroadcaster
    with pytest.raises(AttributeError, match="has no attribute 'SSEBroadcasters'"):
        getattr(producers, "SSEBroadcasters")  # noqa: B009  # type checkers know that it is missing
