"""Agents that answer messages: three that are built in, and the loading of others.

An agent has an id, a name, and examples of messages that it should get. It answers with an async
generator of pieces of text:

    class Greeter:
        agent_id = "greeter"
        name = "Greeter"
        protocol = "local"
        examples: Sequence[str] = ("hello there", "good morning", "hi, how are you?")

        async def answer(self, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
            yield "Hello "
            yield f"to you, {caller.subject}."

An agent whose `answer` takes only the message gets no caller.

`TAPEWIRE_AGENTS=my_package.greeting:Greeter` adds it. Entries are separated by commas, and each is
called without arguments. The message of an `AgentError` goes to the user.
"""

import ast
import operator
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, Protocol

from simpleeval import InvalidExpression, simple_eval

from kafka_io.settings import ProducerSettings
from producers.errors import AgentError, UnknownAgent
from producers.settings import OrchestratorSettings
from schemas.events import RiskMeasure
from schemas.instants import to_rfc3339
from schemas.topics import RISK_MEASURES

MESSAGE_CHARS_MAX = 2_000
"""The longest message that is answered."""
BITS_MAX = 8_192
"""The largest whole number that is computed with, some 2,400 digits."""
_SHOWN_CHARS = 200
_WORDS_A_PIECE = 3


@dataclass(frozen=True, slots=True)
class AgentCaller:
    """The user for whom an agent answers."""

    tenant: str | None = None
    """The user's tenant; None for none."""
    subject: str | None = None
    """The `sub` of the user's token; None without a token."""


class Agent(Protocol):
    """An agent: answers messages of a kind."""

    agent_id: str
    name: str
    protocol: str
    examples: Sequence[str]
    """Messages that the agent should get; the router learns from them."""

    @property
    def answer(self) -> Callable[..., AsyncGenerator[str]]:
        """Yields the answer to a message and an `AgentCaller`, or to a message, in pieces of text.

        A message has at most `MESSAGE_CHARS_MAX` characters. The caller is the user who asks, which
        decides what the answer may show. An `AgentError` says to the user why there is no answer.
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

    async def answer(self, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
        """Yield the expression and its value."""
        del caller
        expression = self._expression(message)
        shown = expression if len(expression) <= _SHOWN_CHARS else f"{expression[:_SHOWN_CHARS]}..."
        try:
            # The library parses expressions without Python's eval.
            value = simple_eval(expression, operators=_BOUNDED, functions={}, names={})
        except ZeroDivisionError:
            raise AgentError(f"{shown} divides by zero") from None
        except (InvalidExpression, SyntaxError, TypeError, ValueError, OverflowError) as error:
            raise AgentError(f"{shown!r} cannot be evaluated: {error}") from error
        except (RecursionError, MemoryError):
            raise AgentError(f"{shown!r} cannot be evaluated: it is nested too deeply") from None
        if not isinstance(value, int | float):
            raise AgentError(f"{shown!r} is not arithmetic")
        yield f"{expression} "
        yield "= "
        yield f"{value:.12g}" if isinstance(value, float) else str(value)

    def _expression(self, message: str) -> str:
        text = message.lower()
        for words, symbol in self._OPERATORS.items():
            text = text.replace(words, f" {symbol} ")
        text = re.sub(r"\badd ([\d.]+) (?:and|to) ([\d.]+)", r"\1 + \2", text)
        found = [part.strip() for part in self._EXPRESSION.findall(text)]
        found = [part for part in found if any(character.isdigit() for character in part)]
        if not found:
            raise AgentError("the message has no numbers; ask, for example, what 17 * 23 is")
        return " ".join(max(found, key=len).split())


def _refuse_bits(bits: int) -> None:
    if bits > BITS_MAX:
        raise OverflowError(f"a number would have more than {BITS_MAX} bits")


def _power(base: float, exponent: float) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        _refuse_bits(abs(base).bit_length() * abs(exponent))
    return base**exponent


def _product(left: float, right: float) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() + right.bit_length())
    return left * right


_BOUNDED: Mapping[type[ast.operator | ast.unaryop], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _product,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
"""The operators, each of which refuses a result that is too large before it is computed."""


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

    async def answer(self, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
        """Yield the last measure of the portfolio of the caller's tenant that the message names."""
        # The other agents need no client of Kafka.
        from kafka_io.reader import read_table  # noqa: PLC0415  # see above

        found = await read_table(RISK_MEASURES, self._settings, caller.tenant or "")
        measures = {
            measure.portfolio_id: measure
            for measure in found.values()
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

    async def answer(self, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
        """Yield the parts that match; all parts if none does."""
        del caller
        text = message.lower()
        fitting = [answer for word, answer in self._ANSWERS.items() if word in text]
        for answer in fitting or self._ANSWERS.values():
            for piece in _in_pieces(answer + "\n"):
                yield piece
        yield "GET /docs describes every endpoint."


def ask(agent: Agent, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
    """Return an agent's answer; one whose `answer` takes only a message gets no caller."""
    try:
        signature(agent.answer).bind(message, caller)
    except TypeError:
        return agent.answer(message)
    return agent.answer(message, caller)


def configured(settings: ProducerSettings, options: OrchestratorSettings) -> Sequence[Agent]:
    """Return the agents that the settings name.

    Raises:
        UnknownAgent: an additional agent cannot be loaded, or a name is of no agent.
    """
    classes = [name.strip() for name in options.agents.split(",") if name.strip()]
    return agents(settings, classes, options.agent_names)


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
