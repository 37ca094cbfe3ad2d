"""The agents that count what happens, in two stages, for the dashboards."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import faust

from schemas.events import BoardState, DeadLetter, Event, Record, RiskAlert, WindowTally
from schemas.topics import (
    BACKTEST_EVENTS,
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    RISK_ALERTS,
    TRAINING_EVENTS,
    Topic,
    key_of,
)
from stream_processors.faust_adapter import States, Writer
from stream_processors.messages import dead_letter, decoded, tenant_of, told_us
from stream_processors.settings import ProcessorSettings
from stream_processors.windowing.tumbling import Board, Partition, Tallying

_COUNTED = (TRAINING_EVENTS, BACKTEST_EVENTS, RISK_ALERTS)
"""Returns and measures, which are many, are counted where they are measured."""

_TELL_WINDOWS_S = 0.25


def add_dashboard(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add both stages of counting to a worker."""
    boards = _Boards(app, settings, writer)
    counted = {settings.topic_prefix + topic.name: topic for topic in _COUNTED}
    window_us = settings.dashboard_windows_us()[0]

    @app.agent(writer.topic(*_COUNTED), name="tally_events")
    async def tally_events(stream: Any) -> None:
        async for events in stream.noack_take(1000, within=0.1):
            tallying = Tallying(window_us)
            letters: list[Event] = []
            for event in events:
                message = event.message
                topic = counted[message.topic]
                record = decoded(message, topic.record)
                if isinstance(record, DeadLetter):
                    letters.append(record)
                elif message.key != key_of(record):
                    wrong = f"the key is {message.key!r}; it must be {key_of(record)!r}"
                    letters.append(dead_letter(message, "misplaced", wrong))
                where = Partition(message.topic, message.partition)
                name = _count_name(topic, record)
                tallying.add(where, tenant_of(message), message.offset, told_us(message), name)
            await writer.send_all([*letters, *tallying.tallies()])
            _acknowledge(events)

    @app.agent(writer.topic(DASHBOARD_TALLIES), name="total_windows")
    async def total_windows(stream: Any) -> None:
        async for events in stream.noack_take(1000, within=0.1):
            await boards.take([event.message for event in events])
            _acknowledge(events)

    @app.timer(_TELL_WINDOWS_S)
    async def tell_windows() -> None:
        await boards.take(())


class _Boards:
    """The boards of the partitions that this worker has, one for each tenant."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
        self._writer = writer
        self._windows_us = settings.dashboard_windows_us()
        self._lateness_us = int(settings.dashboard_lateness_s * 1_000_000)
        self._boards: dict[str, Board] = {}
        self._states = States(app, writer, DASHBOARD_BOARDS)
        self._states.on_recover(self._recover)
        self._one_at_a_time = asyncio.Lock()

    async def take(self, messages: Iterable[Any]) -> None:
        """Add tallies up, and tell the windows that are due; when this returns, Kafka has all."""
        async with self._one_at_a_time:
            now_us = time.time_ns() // 1000
            changed = set()
            for message in messages:
                tally = decoded(message, WindowTally)
                if isinstance(tally, DeadLetter):
                    await self._writer.send_all([tally])
                    continue
                board = self._boards.get(tally.board)
                if board is None:
                    board = self._board(BoardState(board=tally.board, partition=message.partition))
                board.add(tally, message.offset, now_us)
                changed.add(tally.board)
            await self._tell(changed, now_us)

    async def _tell(self, changed: set[str], now_us: int) -> None:
        rows: dict[bytes, tuple[int, Record | None]] = {}
        told: list[tuple[Event, str | None]] = []
        here = self._writer.partitions(DASHBOARD_TALLIES)
        for name, board in self._boards.items():
            if board.partition not in here:
                continue  # it is another worker's now
            updates = board.advance(now_us)
            told += [(update, board.tenant) for update in updates]
            if updates or name in changed:
                rows[name.encode()] = board.partition, board.pack()
        await self._writer.send_each(told)
        await self._states.keep(rows)

    async def _recover(self) -> None:
        async with self._one_at_a_time:
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


def _acknowledge(events: Iterable[Any]) -> None:
    """All at once: a commit in between would divide what was tallied together."""
    for event in events:
        event.ack()
