"""An event loop in a thread of its own, for code without asyncio."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines of any thread on one event loop. Use it in `with`, or close it."""

    def __init__(self, name: str, to_threads: int | None = None) -> None:
        """Start the thread.

        Args:
            name: the name of the thread.
            to_threads: how many calls of `asyncio.to_thread` run at once; None for Python's
                default by the number of processors, which is too few where calls wait long.
        """
        self._loop = asyncio.new_event_loop()
        if to_threads is not None:
            self._loop.set_default_executor(ThreadPoolExecutor(to_threads, name))
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, call: Coroutine[object, object, T]) -> T:
        """Run a coroutine on the loop, and wait for it.

        Raises:
            RuntimeError: the thread has ended.
        """
        if not self._thread.is_alive():
            call.close()  # else Python would warn that nothing has awaited it
            raise RuntimeError("this is closed already; make a new one")
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
