"""The two agents that count events for the dashboards.

`tally_events` counts the events of each partition by window and sends tallies; `total_windows`
adds the tallies of each tenant up and sends a `dashboard_update` when a window is over. Returns and
measures are counted where they are measured, in `stream_processors.agents.risk`: they are too many
to be read a second time.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import faust

from kafka_io.clock import now_us
from schemas.events import (
    BoardState,
    DeadLetter,
    DeadLetterReason,
    Event,
    Record,
    RiskAlert,
    WindowTally,
)
from schemas.topics import (
    BACKTEST_EVENTS,
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    RISK_ALERTS,
    TRAINING_EVENTS,
    Topic,
    key_of,
)
from stream_processors.faust_adapter import StateTable, Writer, process_batches
from stream_processors.messages import (
    Message,
    TopicPartition,
    dead_letter,
    decode_message,
    recorded_us,
    tenant_of,
)
from stream_processors.settings import ProcessorSettings
from stream_processors.windowing.board import Board
from stream_processors.windowing.tallies import WindowCounter

_COUNTED = (TRAINING_EVENTS, BACKTEST_EVENTS, RISK_ALERTS)
_RECORDS_MAX = 1_000
_WITHIN_S = 0.1
_PUBLISH_EVERY_S = 0.25


def add_dashboard(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add both stages of counting to a worker."""
    boards = _Boards(app, settings, writer)
    counted = {settings.topic_prefix + topic.name: topic for topic in _COUNTED}
    window_us = settings.dashboard_windows_us()[0]

    async def tally(messages: Sequence[Message]) -> None:
        counter = WindowCounter(window_us)
        dead_letters: list[Event] = []
        for message in messages:
            topic = counted[message.topic]
            record = decode_message(message, topic.record)
            if isinstance(record, DeadLetter):
                dead_letters.append(record)
            elif message.key != key_of(record):
                error = f"the key is {message.key!r}; it must be {key_of(record)!r}"
                dead_letters.append(dead_letter(message, DeadLetterReason.MISPLACED, error))
            source = TopicPartition(message.topic, message.partition)
            name = _count_name(topic, record)
            counter.add(source, tenant_of(message), message.offset, recorded_us(message), name)
        await writer.send_all([*dead_letters, *counter.tallies()])

    @app.agent(writer.topic(*_COUNTED), name="tally_events")
    async def tally_events(stream: Any) -> None:
        await process_batches(stream, tally, records_max=_RECORDS_MAX, within_s=_WITHIN_S)

    @app.agent(writer.topic(DASHBOARD_TALLIES), name="total_windows")
    async def total_windows(stream: Any) -> None:
        await process_batches(stream, boards.process, records_max=_RECORDS_MAX, within_s=_WITHIN_S)

    @app.timer(_PUBLISH_EVERY_S)
    async def publish_windows() -> None:
        await boards.process(())


class _Boards:
    """The boards of the partitions that this worker has, one for each tenant."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
        self._writer = writer
        self._windows_us = settings.dashboard_windows_us()
        self._lateness_us = int(settings.dashboard_lateness_s * 1_000_000)
        self._boards: dict[str, Board] = {}
        self._states = StateTable(app, writer, DASHBOARD_BOARDS)
        self._states.on_recover(self._recover)
        self._lock = asyncio.Lock()

    async def process(self, messages: Sequence[Message]) -> None:
        """Add tallies and publish the windows that are due; returns when Kafka has everything."""
        async with self._lock:
            time_us = now_us()
            changed = set()
            for message in messages:
                tally = decode_message(message, WindowTally)
                if isinstance(tally, DeadLetter):
                    await self._writer.send_all([tally])
                    continue
                board = self._boards.get(tally.board)
                if board is None:
                    board = self._board(BoardState(board=tally.board, partition=message.partition))
                board.add(tally, message.offset, time_us)
                changed.add(tally.board)
            await self._publish(changed, time_us)

    async def _publish(self, changed: set[str], now_us: int) -> None:
        rows: dict[bytes, tuple[int, Record | None]] = {}
        events: list[tuple[Event, str | None]] = []
        assigned = self._writer.partitions(DASHBOARD_TALLIES)
        for name, board in self._boards.items():
            if board.partition not in assigned:
                continue  # its partition has moved to another worker
            updates = board.advance(now_us)
            events += [(update, board.tenant) for update in updates]
            if updates or name in changed:
                rows[name.encode()] = board.partition, board.pack()
        await self._writer.send_each(events)
        await self._states.write(rows)

    async def _recover(self) -> None:
        async with self._lock:
            self._boards.clear()
            for _, state in self._states.recovered(BoardState):
                self._board(state)

    def _board(self, state: BoardState) -> Board:
        board = self._boards[state.board] = Board(state, self._windows_us, self._lateness_us)
        return board


def _count_name(topic: Topic, record: Record) -> str:
    if isinstance(record, DeadLetter):
        return "undecodable"
    if isinstance(record, RiskAlert):
        return f"alerts_{record.state}"
    return topic.name.replace(".", "_")
