"""An orchestrator of agents that kills itself at a message before it has written anything."""

import os
import signal
import sys

from producers import __main__ as program
from producers.agents.agents import ask
from producers.agents.orchestrator import Ask, Run
from producers.agents.router import Router

LETHAL = "lethal"

answer = Run.answer


async def answer_or_die(self: Run, router: Router, ask: Ask = ask) -> None:
    if self._command.message == LETHAL and self._lost < 3:  # as if a library did it
        sys.stderr.write("this is the end\n")
        os.kill(os.getpid(), signal.SIGKILL)
    await answer(self, router, ask)


if __name__ == "__main__":
    Run.answer = answer_or_die  # type: ignore[method-assign]  # as if the command did it
    program.main()
