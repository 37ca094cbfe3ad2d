"""The two processors that count events for the dashboards.

`EventTallies` counts the events of each partition by window and sends tallies; `WindowTotals` adds
the tallies of each tenant up and sends a `dashboard_update` when a window is over. Returns and
measures are counted where they are measured, in `stream_processors.agents.risk`: they are too many
to be read a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kafka_io.clock import now_us
from kafka_io.dead_letters import Message
from schemas.events import (
    BoardState,
    Record,
    RiskAlert,
    WindowTally,
)
from schemas.headers import fault_of_tenant
from schemas.keys import encode_key
from schemas.topics import (
    BACKTEST_EVENTS,
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    RISK_ALERTS,
    TRAINING_EVENTS,
    Topic,
    TopicPartition,
)
from stream_processors.messages import Admitted, recorded_us, tenant_of
from stream_processors.processor import Processor, Round, Rows, restored
from stream_processors.settings import ProcessorSettings
from stream_processors.windowing.board import Board
from stream_processors.windowing.tallies import WindowCounter

_COUNTED = (TRAINING_EVENTS, BACKTEST_EVENTS, RISK_ALERTS)
_LINGER_S = 0.1
_PUBLISH_EVERY_S = 0.25
_CALM_EVERY_S = 1.0
"""The seconds between two ticks of a partition number that has nothing to publish."""


class EventTallies(Processor):
    """Counts events by window."""

    def __init__(self, settings: ProcessorSettings) -> None:
        super().__init__("tally_events", _COUNTED, linger_s=_LINGER_S)
        self._counted = {settings.topic_prefix + topic.name: topic for topic in _COUNTED}
        self._window_us = settings.dashboard_windows_us()[0]
        self._counters: dict[int, WindowCounter] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Begin to count; between two rounds there is no state."""
        del rows, row_limits
        self._counters[number] = WindowCounter(self._window_us)

    def forget(self, number: int) -> None:
        """Drop what was counted in an unfinished round."""
        self._counters.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Count the messages."""
        counter = self._counters[this_round.number]
        for message in messages:
            _count(counter, message, _count_name(self._counted[message.topic], message.record))

    async def refuse(self, message: Message, this_round: Round) -> None:
        """Count a message that has become a dead letter."""
        _count(self._counters[this_round.number], message, "undecodable")

    async def finish(self, this_round: Round) -> None:
        """Send the tallies of the round."""
        counter = self._counters[this_round.number]
        self._counters[this_round.number] = WindowCounter(self._window_us)
        for tally in counter.tallies():
            this_round.send(tally, tally.tenant)


class WindowTotals(Processor):
    """Adds tallies up, on a board for each tenant."""

    def __init__(self, settings: ProcessorSettings) -> None:
        super().__init__(
            "total_windows",
            (DASHBOARD_TALLIES,),
            (DASHBOARD_BOARDS,),
            linger_s=_LINGER_S,
            tick_s=_PUBLISH_EVERY_S,
        )
        self._windows_us = settings.dashboard_windows_us()
        self._lateness_us = int(settings.dashboard_lateness_s * 1_000_000)
        self._boards: dict[int, dict[str, Board]] = {}
        self._changed: dict[int, set[str]] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the boards of a partition number."""
        last = row_limits[DASHBOARD_TALLIES.name] - 1
        self._changed[number] = set()

        def restore(state: Record) -> tuple[str, Board] | None:
            if not isinstance(state, BoardState):
                return None
            # An offset is not behind the log, also after the log has lost its end.
            return state.board, self._board(replace(state, offset=min(state.offset, last)))

        self._boards[number] = restored(DASHBOARD_BOARDS, rows[DASHBOARD_BOARDS.name], restore)

    def forget(self, number: int) -> None:
        """Drop the boards of a partition number."""
        self._boards.pop(number, None)
        self._changed.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Add the messages' tallies to their boards."""
        boards, time_us = self._boards[this_round.number], now_us()
        for message in messages:
            tally = message.record
            assert isinstance(tally, WindowTally)
            board = boards.get(tally.board)
            if board is None:
                state = BoardState(board=tally.board, partition=message.partition)
                board = boards[tally.board] = self._board(state)
            board.add(tally, message.offset, time_us)
            self._changed[this_round.number].add(tally.board)

    async def finish(self, this_round: Round) -> None:
        """Publish the windows that are over, and write the boards that have changed."""
        changed, self._changed[this_round.number] = self._changed[this_round.number], set()
        time_us = now_us()
        for name, board in self._boards[this_round.number].items():
            updates = board.advance(time_us)
            for update in updates:
                this_round.send(update, board.tenant)
            if updates or name in changed:
                key = encode_key(name, board.tenant)
                this_round.put(DASHBOARD_BOARDS, key, board.pack())

    def tick_s_of(self, number: int) -> float:
        """Return the seconds between two ticks: fewer while there is a window to publish."""
        boards = self._boards.get(number, {}).values()
        return _PUBLISH_EVERY_S if any(board.is_due_later for board in boards) else _CALM_EVERY_S

    def needs_tick(self, number: int, now_us: int) -> bool:
        """Return whether there is a board, whose watermark goes on with the time."""
        del now_us
        return bool(self._boards[number])

    async def tick(self, this_round: Round) -> None:
        """End the round where a window is over."""
        await self.finish(this_round)

    def _board(self, state: BoardState) -> Board:
        return Board(state, self._windows_us, self._lateness_us)


def _count(counter: WindowCounter, message: Message, name: str) -> None:
    source = TopicPartition(message.topic, message.partition)
    tenant = tenant_of(message)
    if fault_of_tenant(message.headers or ()) is not None:
        tenant = None  # of a message that has been refused
    counter.add(source, tenant, message.offset, recorded_us(message), name)


def _count_name(topic: Topic, record: Record) -> str:
    if isinstance(record, RiskAlert):
        return f"alerts_{record.state}"
    return topic.name.replace(".", "_")
