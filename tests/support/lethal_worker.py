"""A processors' worker that kills itself at a return of the portfolio `lethal`."""

import os
import signal
import sys
from collections.abc import Sequence

from schemas.events import ReturnBatch
from stream_processors import __main__ as program
from stream_processors.agents.risk import Risk
from stream_processors.messages import Admitted
from stream_processors.processor import Round

LETHAL = "lethal"

process_messages = Risk.process


async def process_or_die(self: Risk, messages: Sequence[Admitted], this_round: Round) -> None:
    for message in messages:
        batch = message.record
        if isinstance(batch, ReturnBatch) and batch.returns[0].portfolio_id == LETHAL:
            sys.stderr.write("this is the end\n")
            os.kill(os.getpid(), signal.SIGKILL)
    await process_messages(self, messages, this_round)


if __name__ == "__main__":
    Risk.process = process_or_die  # type: ignore[method-assign]  # as if the record did it
    program.main()
