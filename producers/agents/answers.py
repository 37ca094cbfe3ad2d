"""`python -m producers.agents.answers`: agents that answer in a process of their own.

Requests are JSON lines on standard input: `agent` (its index among the agents of the settings),
`message`, `tenant`, `subject` and `seconds`, the time that the answer may take. For each, JSON
lines follow on standard output: `piece` with text, any number of times, and last `end`, which is
`completed`, `refused` with a `text` for the user, or `failed`.

The process ends with its standard input. A timer of the kernel ends it as well if an answer takes
longer than its time, which no code of an agent can hold up.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import IO, Any

from kafka_io.log_lines import configure_logging
from kafka_io.settings import ProducerSettings
from producers.agents.agents import Agent, AgentCaller, ask, configured
from producers.errors import AgentError
from producers.settings import OrchestratorSettings

logger = logging.getLogger(__name__)

PIECE_CHARS_MAX = 8_000
_ERROR_CHARS_MAX = 2_000
_GRACE_S = 5.0
"""How much longer than the answer's time the timer waits: the other process is to be first."""

Write = Callable[[dict[str, object]], None]


def main() -> None:
    """Answer requests until standard input ends."""
    # What an agent prints must not look like an answer, so it goes to the log.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settings = ProducerSettings(source="/producers/orchestrator")
    configure_logging(settings.log_level, settings.log_format)

    def write(line: dict[str, object]) -> None:
        answers.write(f"{json.dumps(line)}\n")
        answers.flush()

    asyncio.run(_serve(configured(settings, OrchestratorSettings()), sys.stdin, write))


async def _serve(agents: Sequence[Agent], requests: IO[str], write: Write) -> None:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in requests:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        os._exit(0)  # even while an agent hangs

    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        request = json.loads(await lines.get())
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + _GRACE_S)
        try:
            write(await end_of(agents[request["agent"]], request, write))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


async def end_of(agent: Agent, request: dict[str, Any], write: Write) -> dict[str, object]:
    """Write the pieces of an answer, and return its last line."""
    caller = AgentCaller(request["tenant"], request["subject"])
    try:
        async with aclosing(ask(agent, request["message"], caller)) as answer:
            async for piece in answer:
                for at in range(0, len(piece), PIECE_CHARS_MAX):
                    write({"piece": piece[at : at + PIECE_CHARS_MAX]})
    except AgentError as error:
        return {"end": "refused", "text": str(error)[:_ERROR_CHARS_MAX]}
    except Exception:
        logger.exception("agent %s failed", agent.agent_id)
        return {"end": "failed"}
    return {"end": "completed"}


if __name__ == "__main__":
    main()
