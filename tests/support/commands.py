"""Commands whose events are kept in memory instead of being written to Kafka."""

from collections.abc import Callable
from typing import Any

from kafka_io.command_group import ReceivedCommand
from kafka_io.command_window import Attempts
from kafka_io.errors import WorkStopped
from schemas.events import BacktestCommand, Event, Record


def backtest_command(
    job_id: str, symbol: str = "IBM", *, event_time_us: int = 0
) -> BacktestCommand:
    """Return a command to hold a stock through 2008."""
    return BacktestCommand(
        job_id=job_id,
        owner="alice",
        symbol=symbol,
        strategy="buy_and_hold",
        parameters={},
        start_date="2008-01-01",
        end_date="2008-12-31",
        cost=0.001,
        initial_cash=10_000.0,
        event_time_us=event_time_us,
    )


FIRST = Attempts()
"""No attempt was made before."""


class MemoryCommand:
    """A command that a worker has received."""

    def __init__(self, events_max: float = float("inf")) -> None:
        """Keep events, and let the work stop after `events_max` of them."""
        self.events: list[Any] = []
        self._events_max = events_max

    def publish(self, event: Event) -> None:
        if len(self.events) == self._events_max:
            raise WorkStopped("another worker has the command")
        self.events.append(event)

    def received(
        self,
        command: Record,
        is_cancelled: Callable[[], bool] = lambda: False,
        *,
        earlier: Attempts = FIRST,
    ) -> ReceivedCommand:
        return ReceivedCommand(command, (), "acme", earlier, is_cancelled, self.publish)
