"""Ways to serve Kafka as server-sent events that tutorials show, to compare the edge with.

`consumer`: each connection starts a Kafka consumer of its own. `queue`: one consumer a process,
which words each event once and puts it into a queue for each connection; it keeps the newest events
in memory and puts what a client has missed, by its last id, into that client's queue. `joined`: the
same, but it finds the last id at once, and puts what was missed into the queue as one.

Both speak the edge's paths and word events alike, with the offset as the id.
"""

import argparse
import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from itertools import islice

import uvicorn
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from schemas.codec import decode

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_PING_S = 30.0

Queue = asyncio.Queue[bytes]


def _frame(record: "ConsumerRecord[bytes, bytes]") -> bytes:
    data = asdict(decode(record.value))
    envelope = {"event": "training_progress", "data": data, "timestamp": record.timestamp}
    return (
        f"event: training_progress\ndata: {json.dumps(envelope)}\n"
        f"id: {record.partition}:{record.offset}\n\n"
    ).encode()


def consumer_per_connection(servers: str, topic: str, partitions: int) -> FastAPI:
    """An application whose connections each have a consumer."""
    app = FastAPI()

    @app.get("/api/v1/sse/training")
    async def training(request: Request, task_id: str | None = None) -> StreamingResponse:
        is_replay = request.query_params.get("from") == "earliest"

        async def events() -> AsyncGenerator[bytes]:
            consumer = _consumer(servers)
            await consumer.start()
            try:
                consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
                await (consumer.seek_to_beginning() if is_replay else consumer.seek_to_end())
                yield b"event: connected\ndata: {}\n\n"
                async for record in consumer:
                    if task_id is None or record.key == task_id.encode():
                        yield _frame(record)
            finally:
                await consumer.stop()

        return StreamingResponse(events(), media_type="text/event-stream", headers=_HEADERS)

    return app


class Shared:
    """One consumer, the newest events in memory, and who is to have the next."""

    def __init__(
        self, servers: str, topic: str, partitions: int, kept: int, *, joins: bool
    ) -> None:
        self._servers = servers
        self._joins = joins
        self._place: dict[str, int] = {}
        """After each event, how many there had been; of a topic's worth of a benchmark."""
        self._assigned = [TopicPartition(topic, number) for number in range(partitions)]
        self._history: deque[tuple[str, bytes, bytes]] = deque(maxlen=kept)
        self._everybody: set[Queue] = set()
        self._by_key: defaultdict[bytes, set[Queue]] = defaultdict(set)

    async def follow(self) -> None:
        """Word each event once, and put it into the queues."""
        consumer = _consumer(self._servers)
        await consumer.start()
        try:
            consumer.assign(self._assigned)
            await consumer.seek_to_end()
            async for record in consumer:
                frame, key = _frame(record), record.key or b""
                event_id = f"{record.partition}:{record.offset}"
                self._history.append((event_id, key, frame))
                self._place[event_id] = len(self._place) + 1
                for queue in self._everybody:
                    queue.put_nowait(frame)
                for queue in self._by_key.get(key, ()):
                    queue.put_nowait(frame)
        finally:
            await consumer.stop()

    async def events(self, key: bytes | None, last_id: str | None) -> AsyncGenerator[bytes]:
        """What one connection is sent."""
        queue: Queue = asyncio.Queue()
        missed = self._missed(key, last_id) if last_id else []
        if self._joins:
            missed = [b"".join(missed)] if missed else []
        for frame in missed:
            queue.put_nowait(frame)
        queues = self._everybody if key is None else self._by_key[key]
        queues.add(queue)
        try:
            yield b"event: connected\ndata: {}\n\n"
            while True:
                try:
                    async with asyncio.timeout(_PING_S):
                        frame = await queue.get()
                except TimeoutError:
                    frame = b": ping\n"
                yield frame
        finally:
            queues.discard(queue)

    def _missed(self, key: bytes | None, last_id: str) -> list[bytes]:
        if self._joins:
            since = len(self._place) - self._place.get(last_id, len(self._place))
            first = max(0, len(self._history) - since)
            return [
                frame
                for _, event_key, frame in islice(self._history, first, None)
                if key in (None, event_key)
            ]
        missed, found = [], False
        for event_id, event_key, frame in self._history:
            if found and key in (None, event_key):
                missed.append(frame)
            found = found or event_id == last_id
        return missed


def queue_per_connection(shared: Shared) -> FastAPI:
    """An application with one consumer, and a queue for each connection."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(shared.follow())
            yield
            following.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/api/v1/sse/training")
    async def training(request: Request, task_id: str | None = None) -> StreamingResponse:
        key = None if task_id is None else task_id.encode()
        events = shared.events(key, request.headers.get("last-event-id"))
        return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)

    return app


def _consumer(servers: str) -> "AIOKafkaConsumer":
    return AIOKafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="latest"
    )


def main() -> None:
    """Serve one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("consumer", "queue", "joined"))
    parser.add_argument("--servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kept", type=int, default=250_000)
    arguments = parser.parse_args()
    if arguments.kind == "consumer":
        app = consumer_per_connection(arguments.servers, arguments.topic, arguments.partitions)
    else:
        shared = Shared(
            arguments.servers,
            arguments.topic,
            arguments.partitions,
            arguments.kept,
            joins=arguments.kind == "joined",
        )
        app = queue_per_connection(shared)
    uvicorn.run(app, port=arguments.port, access_log=False, log_level="warning", backlog=4096)


if __name__ == "__main__":
    main()
