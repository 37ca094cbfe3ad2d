"""The processes in which agents answer, each of which can be killed.

A process loads all agents once, and gives one answer at a time. It is kept for the next answer, but
killed, with whatever it has started, when an answer takes longer than its deadline or is no longer
needed. `producers.agents.answers` describes the lines between the two.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

from kafka_io.errors import WorkStopped
from producers.agents.agents import Agent, AgentCaller
from producers.errors import AgentError, AgentTimedOut

logger = logging.getLogger(__name__)

_LINE_BYTES_MAX = 1 << 20
_POLL_S = 0.25
"""How often a waiting answer looks whether it is still needed."""
_ANSWER_CHARS_MAX = 1_000_000


class AnswerProcesses:
    """Processes that answer; they belong to one event loop."""

    def __init__(self, agents: Sequence[Agent], deadline_s: float) -> None:
        """Start no process yet.

        Args:
            agents: the agents of the settings.
            deadline_s: how long an answer may take.
        """
        self._numbers = {id(agent): number for number, agent in enumerate(agents)}
        self.deadline_s = deadline_s
        """How long an answer may take, in seconds."""
        self._idle: list[Process] = []
        self._busy: set[Process] = set()

    async def start(self) -> None:
        """Start a process, so that the first answer does not wait for it."""
        self._idle.append(await _started())

    async def close(self) -> None:
        """Kill all processes."""
        for process in (*self._idle, *self._busy):
            await _kill(process)
        self._idle.clear()

    async def answer(
        self, is_stopped: Callable[[], bool], agent: Agent, message: str, caller: AgentCaller
    ) -> AsyncGenerator[str]:
        """Yield an agent's answer in pieces of text.

        Raises:
            AgentError: there is no answer; the message is for the user.
            AgentTimedOut: there is none within the deadline.
            WorkStopped: the answer is no longer needed.
            RuntimeError: the agent has failed.
        """
        process = await self._take()
        is_whole = False
        try:
            deadline_s = asyncio.get_running_loop().time() + self.deadline_s
            request = {
                "agent": self._numbers[id(agent)],
                "message": message,
                "tenant": caller.tenant,
                "subject": caller.subject,
                "seconds": self.deadline_s,
            }
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(request)}\n".encode())
            count = 0
            while True:
                line = json.loads(await self._next(process, agent, deadline_s, is_stopped))
                if "end" in line:
                    break
                count += len(line["piece"])
                if count > _ANSWER_CHARS_MAX:
                    raise AgentError(
                        f"{agent.name} has answered more than {_ANSWER_CHARS_MAX:,} characters"
                    )
                yield line["piece"]
            is_whole = True
        finally:
            self._busy.discard(process)
            if is_whole:
                self._idle.append(process)
            else:
                await _kill(process)
        if line["end"] == "refused":
            raise AgentError(line["text"])
        if line["end"] != "completed":
            raise RuntimeError(f"agent {agent.agent_id} has failed; its process logs why")

    async def _take(self) -> Process:
        """Return a process that waits for a request."""
        process = self._idle.pop() if self._idle else await _started()
        if process.returncode is not None:
            process = await _started()
        self._busy.add(process)
        return process

    async def _next(
        self, process: Process, agent: Agent, deadline_s: float, is_stopped: Callable[[], bool]
    ) -> bytes:
        """Return the next line of an answer."""
        assert process.stdout is not None
        loop = asyncio.get_running_loop()
        while loop.time() < deadline_s:
            if is_stopped():
                raise WorkStopped("the answer is no longer needed")
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline_s, loop.time() + _POLL_S)):
                    line = await process.stdout.readline()
                    if not line.endswith(b"\n"):
                        code = await process.wait()
                        raise RuntimeError(f"the process of {agent.agent_id} has ended ({code})")
                    return line
        logger.warning("agent %s has not answered in time; its process is killed", agent.agent_id)
        raise AgentTimedOut(
            f"{agent.name} has not answered within {self.deadline_s:g} s; ask again"
        )


async def _started() -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.answers"),
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE_BYTES_MAX,
        start_new_session=True,  # so that it can be killed with whatever it has started
    )


async def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
