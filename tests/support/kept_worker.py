"""A worker that is started again whenever it ends."""

import asyncio
import signal
from contextlib import suppress

from infra.errors import PartFailed
from tests.conftest import Started, World


class KeptWorker:
    """A worker that is started again whenever it ends, as its supervisor would do."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._started: Started | None = None
        self._running = asyncio.Event()
        self._is_ending = False
        self.ends: list[str] = []
        """The last line of the log for each time that it ended without being asked to."""

    async def run(self) -> None:
        """Keep it running until cancelled."""
        while True:
            try:
                self._started = await self._world.worker(
                    worker_id=self._name, batch_within_s=0.05, batch_records_max=50
                )
            except PartFailed as error:
                self.ends.append(str(error))
                continue
            self._running.set()
            await self._started.process.ended()
            self._running.clear()
            if not self._is_ending:
                self.ends.append(self._started.process.last_lines()[-1])
            self._is_ending = False

    async def ready(self) -> Started:
        """Wait until it runs."""
        await self._running.wait()
        assert self._started is not None
        return self._started

    async def end(self, *, kill: bool) -> None:
        """End it, in order or not."""
        started = await self.ready()
        self._is_ending = True
        await (started.kill() if kill else started.stop())

    async def pause(self, seconds: float) -> None:
        """Stop it from running for a time."""
        process = (await self.ready()).process
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)  # as long as the pause lasts
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
