"""A link to a broker on which every byte takes its time."""

import asyncio
import random
import threading
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import NamedTuple

_CHUNK_BYTES = 1 << 16
_CHUNKS_MAX = 256
"""How many chunks are on their way before their sender must wait."""
_START_S = 10.0


class Delay(NamedTuple):
    """How long bytes take from one end of a link to the other, in seconds."""

    least_s: float = 0.0
    most_s: float = 0.0
    """It is drawn anew for each chunk. Chunks never overtake one another."""


class SlowLink:
    """A TCP port whose connections lead to another port of this machine."""

    def __init__(self, port: int, to_port: int) -> None:
        """Make a link without delays, which is not open yet.

        Args:
            port: the port to listen on.
            to_port: the port that its connections lead to.
        """
        self.delay = Delay()
        """Applies to what comes from now on, in both directions."""
        self._port = port
        self._to_port = to_port
        self._random = random.Random(1)

    async def serve(self, opened: Callable[[], None], closed: asyncio.Event) -> None:
        """Pass bytes on until the event is set; tell when the port is open."""
        async with asyncio.TaskGroup() as tasks:
            connections = set()

            def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = tasks.create_task(self._connect(reader, writer))
                connections.add(task)
                task.add_done_callback(connections.discard)

            async with await asyncio.start_server(connect, "127.0.0.1", self._port):
                opened()
                await closed.wait()
                for task in connections:
                    task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_close, writer)
            try:
                opened = await asyncio.open_connection("127.0.0.1", self._to_port)
            except OSError:
                return
            far_reader, far_writer = opened
            stack.push_async_callback(_close, far_writer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, far_writer))
                tasks.create_task(self._pass_on(far_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the bytes of one direction on, until either end closes."""
        on_their_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_MAX)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_arrive(on_their_way, writer))
            chunk = b"-"
            while chunk:
                with suppress(ConnectionError):
                    chunk = await reader.read(_CHUNK_BYTES)
                delay_s = self._random.uniform(*self.delay)
                await on_their_way.put((asyncio.get_running_loop().time() + delay_s, chunk))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _arrive(
    on_their_way: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
) -> None:
    """Write each chunk when it is due; an empty one ends the connection."""
    while True:
        due_s, chunk = await on_their_way.get()
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())  # its time on the link
        if not chunk:
            writer.close()
            return
        with suppress(ConnectionError):
            writer.write(chunk)
            await writer.drain()


@contextmanager
def slow_link(port: int, to_port: int) -> Generator[SlowLink]:
    """Have a link for as long as the block lasts, in a thread of its own."""
    link = SlowLink(port, to_port)
    opened = threading.Event()
    loop = asyncio.new_event_loop()
    closed = asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(link.serve(opened.set, closed),), daemon=True
    )
    thread.start()
    try:
        assert opened.wait(_START_S), f"port {port} did not open"
        yield link
    finally:
        loop.call_soon_threadsafe(closed.set)
        thread.join(_START_S)
        loop.close()
