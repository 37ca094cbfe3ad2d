"""Agents that answer messages: three that are built in, and the loading of others.

An agent has an id, a name, and examples of messages that it should get. It answers with an async
generator of pieces of text:

    class Greeter:
        agent_id = "greeter"
        name = "Greeter"
        protocol = "local"
        examples: Sequence[str] = ("hello there", "good morning", "hi, how are you?")

        async def answer(self, message: str) -> AsyncGenerator[str]:
            yield "Hello "
            yield "to you."

`TAPEWIRE_AGENTS=my_package.greeting:Greeter` adds it. Entries are separated by commas, and each is
called without arguments. The message of an `AgentError` goes to the user.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib import import_module
from typing import Protocol

from simpleeval import InvalidExpression, simple_eval

from kafka_io.reader import read_table
from kafka_io.settings import ProducerSettings
from producers.errors import AgentError, UnknownAgent
from schemas.events import RiskMeasure
from schemas.instants import to_rfc3339
from schemas.topics import RISK_MEASURES

_WORDS_A_PIECE = 3


class Agent(Protocol):
    """An agent: answers messages of a kind."""

    agent_id: str
    name: str
    protocol: str
    examples: Sequence[str]
    """Messages that the agent should get; the router learns from them."""

    def answer(self, message: str) -> AsyncGenerator[str]:
        """Yield the answer in pieces of text.

        Raises:
            AgentError: there is no answer; the message is for the user.
        """
        ...


class Arithmetic:
    """Evaluates expressions of numbers and operators, or of words for them."""

    agent_id = "arithmetic"
    name = "Arithmetic"
    protocol = "local"
    examples: Sequence[str] = (
        "What's 2+2?",
        "what is 17 * 23",
        "compute (3 + 4) / 2",
        "calculate 12 divided by 5",
        "how much is 7 times 8",
        "2 ** 10",
        "add 4 and 5",
        "what is 15 percent of 80?",
        "100 minus 37",
    )

    _OPERATORS: Mapping[str, str] = {
        "plus": "+",
        "minus": "-",
        "times": "*",
        "multiplied by": "*",
        "divided by": "/",
        "over": "/",
        "to the power of": "**",
        "percent of": "/ 100 *",
        "% of": "/ 100 *",
        "^": "**",
        "×": "*",  # noqa: RUF001  # what people type
        "÷": "/",
    }
    _EXPRESSION = re.compile(r"[\d.(+-][\d\s.+\-*/()%]*")

    async def answer(self, message: str) -> AsyncGenerator[str]:
        """Yield the expression and its value."""
        expression = self._expression(message)
        try:
            # The library parses expressions without Python's eval, and bounds numbers and powers.
            value = simple_eval(expression, functions={}, names={})
        except ZeroDivisionError:
            raise AgentError(f"{expression} divides by zero") from None
        except (InvalidExpression, SyntaxError, TypeError, ValueError, OverflowError) as error:
            raise AgentError(f"{expression!r} cannot be evaluated: {error}") from error
        if not isinstance(value, int | float):
            raise AgentError(f"{expression!r} is not arithmetic")
        yield f"{expression} "
        yield "= "
        yield f"{value:.12g}" if isinstance(value, float) else str(value)

    def _expression(self, message: str) -> str:
        text = message.lower()
        for words, operator in self._OPERATORS.items():
            text = text.replace(words, f" {operator} ")
        text = re.sub(r"\badd ([\d.]+) (?:and|to) ([\d.]+)", r"\1 + \2", text)
        found = [part.strip() for part in self._EXPRESSION.findall(text)]
        found = [part for part in found if any(character.isdigit() for character in part)]
        if not found:
            raise AgentError("the message has no numbers; ask, for example, what 17 * 23 is")
        return " ".join(max(found, key=len).split())


class Risk:
    """Reports the live measures of a portfolio."""

    agent_id = "risk"
    name = "Risk desk"
    protocol = "local"
    examples: Sequence[str] = (
        "what is the VaR of AAPL?",
        "value at risk of the growth portfolio",
        "how risky is IBM",
        "expected shortfall of balanced",
        "is MSFT over its limit?",
        "what is the 99% VaR of GOOG",
        "utilisation of equal-weight",
        "risk of my portfolio today",
    )

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        self._settings = settings or ProducerSettings()

    async def answer(self, message: str) -> AsyncGenerator[str]:
        """Yield the last measure of the portfolio that the message names."""
        measures = {
            measure.portfolio_id: measure
            for measure in (await read_table(RISK_MEASURES, self._settings)).values()
            if isinstance(measure, RiskMeasure)
        }
        words = re.findall(r"[\w-]+", message.lower())
        named = [name for name in measures if name.lower() in words]
        if not named:
            known = ", ".join(sorted(measures)) or "none yet"
            raise AgentError(f"name a measured portfolio; these are measured: {known}")
        for name in named:
            for piece in _in_pieces(_in_words(measures[name])):
                yield piece


class Help:
    """Names the parts of this API that a message asks about."""

    agent_id = "help"
    name = "Help"
    protocol = "local"
    examples: Sequence[str] = (
        "how do I use this API?",
        "which endpoints are there",
        "help",
        "how do I follow a training",
        "where are the alerts",
        "what can you do?",
        "how can a client resume a stream",
        "how do I chat",
        "where is the documentation",
    )

    _ANSWERS: Mapping[str, str] = {
        "alert": "Alerts: GET /api/v1/sse/alerts, with ?from=earliest for all that are kept.",
        "train": "Trainings: POST /trainmodel/ with meter_id and meter_type, then "
        "GET /trainmodel/stream/TASK_ID.",
        "resume": "Send the last id that you have seen as Last-Event-ID, to any node.",
        "chat": "Chat: GET /chat-stream?room=ROOM, and POST /send-message with user and message.",
        "risk": "Risk: ask for the VaR of a portfolio, or follow GET /api/v1/sse/measures.",
        "dashboard": "What happens, in windows of a second: GET /api/v1/sse/dashboard.",
    }

    async def answer(self, message: str) -> AsyncGenerator[str]:
        """Yield the parts that match; all parts if none does."""
        text = message.lower()
        fitting = [answer for word, answer in self._ANSWERS.items() if word in text]
        for answer in fitting or self._ANSWERS.values():
            for piece in _in_pieces(answer + "\n"):
                yield piece
        yield "GET /docs describes every endpoint."


def agents(
    settings: ProducerSettings, added: Sequence[str] = (), names: str = ""
) -> Sequence[Agent]:
    """Return the built-in agents and additional ones.

    Args:
        settings: where Kafka is.
        added: additional agents, as `module:name`.
        names: other names of agents for clients, as `AGENT=ID:NAME:PROTOCOL`, separated by commas.

    Raises:
        UnknownAgent: an additional agent cannot be loaded, or a name is of no agent.
    """
    available: Sequence[Agent] = (Arithmetic(), Risk(settings), Help(), *map(_added, added))
    by_id = {agent.agent_id: agent for agent in available}
    for entry in filter(None, (part.strip() for part in names.split(","))):
        agent_id, _, given = entry.partition("=")
        match [part.strip() for part in given.split(":")]:
            case [new_id, name, protocol] if new_id and name and protocol:
                pass
            case _:
                raise UnknownAgent(f"{entry!r} is not AGENT=ID:NAME:PROTOCOL")
        agent = by_id.get(agent_id.strip())
        if agent is None:
            raise UnknownAgent(f"{entry!r} names no agent; there are {', '.join(by_id)}")
        agent.agent_id, agent.name, agent.protocol = new_id, name, protocol
    return available


def _added(where: str) -> Agent:
    module, _, name = where.partition(":")
    try:
        agent: Agent = getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownAgent(
            f"{where!r} is no agent such as package.module:Class: {error}"
        ) from error
    missing = [
        attribute
        for attribute in ("agent_id", "name", "protocol", "examples", "answer")
        if not hasattr(agent, attribute)
    ]
    if missing:
        raise UnknownAgent(f"{where} has no {', '.join(missing)}")
    return agent


def _in_words(measure: RiskMeasure) -> str:
    when = to_rfc3339(measure.as_of_us)[:10]
    if measure.var_95 is None or measure.es_95 is None:
        return f"{measure.portfolio_id}: {measure.status}, {measure.observations} returns. "
    text = (
        f"{measure.portfolio_id} as of {when}: VaR 95 % is {measure.var_95:.4f} of its value, "
        f"expected shortfall {measure.es_95:.4f}"
    )
    if measure.var_99 is not None:
        text += f", VaR 99 % {measure.var_99:.4f}"
    if measure.utilisation is not None and measure.threshold is not None:
        text += f"; {measure.utilisation:.0%} of its limit of {measure.threshold:.4f} is used"
    return text + ". "


def _in_pieces(text: str) -> Sequence[str]:
    words = re.findall(r"\S+\s*", text)
    return ["".join(words[at : at + _WORDS_A_PIECE]) for at in range(0, len(words), _WORDS_A_PIECE)]
