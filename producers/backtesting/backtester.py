"""A backtester: runs backtest jobs on past prices, and reports their progress.

Several backtesters share the jobs. If one stops or is lost, another runs its job again as the next
attempt. An event of the job cancels it. A job ends once: a worker that has lost its job cannot
write.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand, next_attempt
from kafka_io.errors import ProducerError, Unread, WorkStopped
from kafka_io.settings import ProducerSettings
from producers.backtesting.series import Packaged, Series, find_series
from producers.backtesting.strategies import Order, simulate, statistics
from producers.errors import InvalidStrategy
from producers.market.prices import load_bars
from producers.settings import BacktesterSettings
from schemas.events import (
    BacktestCommand,
    BacktestProgress,
    BarChunk,
    Fill,
    JobStep,
    JobStepKind,
    Record,
    RunStatus,
)
from schemas.topics import BACKTEST_COMMANDS, BACKTEST_EVENTS

logger = logging.getLogger(__name__)

_ATTEMPTS_MAX = 3
_REPORTS = 25
_CURVE_POINTS_MAX = 200
_TRANSACTIONS_AT_ONCE = 100
_BARS_AT_ONCE = 500
_OF_OWNERS = frozenset({JobStepKind.SUBMITTED, JobStepKind.CANCEL_REQUESTED, JobStepKind.REMOVED})
"""The kinds of steps that the owner of a job writes."""


async def run(
    settings: ProducerSettings, backtester: BacktesterSettings, stop: asyncio.Event
) -> None:
    """Run jobs until `stop` is set."""
    packaged = load_bars()

    def work(received: ReceivedCommand) -> None:
        command = received.command
        assert isinstance(command, BacktestCommand)
        attempt = _attempt_after(received.events)
        Job(received, command, attempt, packaged, settings, backtester).run()

    commands = CommandGroup(BACKTEST_COMMANDS, BACKTEST_EVENTS, settings, cancels=_cancels)
    await commands.run(work, stop)


def _cancels(event: Record) -> bool:
    return (
        isinstance(event, BacktestProgress)
        and event.job is not None
        and event.job.kind == JobStepKind.CANCEL_REQUESTED
    )


def _attempt_after(events: Iterable[Record]) -> int:
    """Return the number of the next attempt."""
    steps = [event.job for event in events if isinstance(event, BacktestProgress) and event.job]
    return next_attempt(step.attempt for step in steps if step.kind not in _OF_OWNERS)


Transaction = Mapping[str, str | float]
"""An order as clients see it."""


class _Cancelled(Exception):
    """The owner has cancelled the job."""


@dataclass(frozen=True)
class Job:
    """One attempt at a job."""

    received: ReceivedCommand
    command: BacktestCommand
    attempt: int
    packaged: Packaged
    kafka: ProducerSettings
    settings: BacktesterSettings

    def run(self) -> None:
        """Simulate, and report each step.

        Raises:
            WorkStopped: another worker has the job, or this one stops; it reports nothing more.
            Unread: candles cannot be read.
        """
        try:
            self._run()
        except _Cancelled:
            self._report(JobStepKind.CANCELLED, "cancelled on request")
        except (WorkStopped, Unread):
            raise
        except ProducerError as error:
            self._report(JobStepKind.FAILED, str(error))
        except Exception as error:
            logger.exception("job %s failed", self.command.job_id)
            self._report(JobStepKind.FAILED, f"the backtest broke: {error}")

    def _run(self) -> None:
        if self.received.lost_before(self.attempt) >= _ATTEMPTS_MAX:
            lost = f"given up: {_ATTEMPTS_MAX} workers were lost on it; ask for it again"
            raise InvalidStrategy(lost)
        command = self.command
        series = self._series()
        times = [bar.time for bar in series.bars]
        simulation = simulate(
            series.opens,
            series.closes,
            command.strategy,
            command.parameters,
            command.cost,
            slippage=command.slippage,
            fill=command.fill,
            cash=command.initial_cash,
        )
        self._write_bars(series)
        orders = [_transaction(order, series) for order in simulation.orders]
        reported = 0
        for count in np.unique(np.linspace(1, len(times), _REPORTS).astype(int)):
            if self.received.is_cancelled():
                raise _Cancelled
            until_time = times[count - 1]
            day = until_time[:10]
            due = [order for order in orders[reported:] if str(order["time"]) <= until_time]
            for batch in _batches(due):
                message = f"{len(batch)} orders up to {until_time}"
                self._report(JobStepKind.TRANSACTION, message, data=json.dumps(batch), day=day)
                reported += len(batch)
            part = simulation.until(int(count))
            self._report(
                JobStepKind.PROGRESS,
                f"simulating {until_time}",
                progress=round(100.0 * float(count) / len(times), 1),
                bars=(int(count), len(times)),
                day=day,
                results=statistics(part, series.bars_a_year),
            )
            time.sleep(self.settings.backtest_step_pause_s)
        if self.received.is_cancelled():
            raise _Cancelled
        figures = statistics(simulation, series.bars_a_year)
        curve = np.unique(np.linspace(0, len(times) - 1, _CURVE_POINTS_MAX).astype(int))
        summary = figures | {
            "number_of_trades": len(orders),
            "final_value": float(simulation.capital[-1]),
            "fill": command.fill,
            "commission": command.cost,
            "slippage": command.slippage,
            "bars_a_year": series.bars_a_year,
            "interval": series.interval,
            "start_date": times[0][:10],
            "end_date": times[-1][:10],
            "equity_curve": [
                {"time": times[at], "value": float(simulation.capital[at])} for at in curve
            ],
        }
        self._report(
            JobStepKind.COMPLETED,
            f"{command.symbol}: {figures['total_return']:+.1%} in {len(orders)} orders, "
            f"{_FILLED[Fill(command.fill)]}",
            progress=100.0,
            bars=(len(times), len(times)),
            day=times[-1][:10],
            results=figures,
            data=json.dumps(summary),
        )

    def _series(self) -> Series:
        command = self.command
        found = find_series(
            command.symbol,
            command.interval,
            command.start_date,
            command.end_date,
            self.packaged,
            self.kafka,
            self.received.tenant,
        )
        return asyncio.run(found)

    def _write_bars(self, series: Series) -> None:
        """Write the bars that the job runs on, for charts."""
        for interval, bars in {series.interval: series.bars, **series.others}.items():
            for first in range(0, len(bars), _BARS_AT_ONCE):
                chunk = BarChunk(
                    job_id=self.command.job_id,
                    interval=interval,
                    first=first,
                    total=len(bars),
                    bars=bars[first : first + _BARS_AT_ONCE],
                    event_time_us=now_us(),
                )
                self.received.publish(chunk)

    def _report(
        self,
        kind: JobStepKind,
        message: str,
        *,
        progress: float = 0.0,
        bars: tuple[int, int] | None = None,
        day: str | None = None,
        results: Mapping[str, float | None] | None = None,
        data: str | None = None,
    ) -> None:
        command = self.command
        numbers = {name: value for name, value in (results or {}).items() if value is not None}
        event = BacktestProgress(
            backtest_id=command.job_id,
            progress=progress,
            status=_STATUS_OF.get(kind, RunStatus.RUNNING),
            message=message,
            current_date=day,
            results=numbers,
            results_json=None if len(numbers) == len(results or {}) else json.dumps(results),
            event_time_us=now_us(),
            job=JobStep(
                kind=kind,
                attempt=self.attempt,
                symbol=command.symbol,
                strategy=command.strategy,
                owner=command.owner,
                current_bar=None if bars is None else bars[0],
                total_bars=None if bars is None else bars[1],
                data=data,
            ),
        )
        self.received.publish(event)


_STATUS_OF = {
    JobStepKind.COMPLETED: RunStatus.COMPLETED,
    JobStepKind.FAILED: RunStatus.FAILED,
    JobStepKind.CANCELLED: RunStatus.FAILED,
}


_FILLED = {Fill.NEXT_OPEN: "filled at the next open", Fill.CLOSE: "filled at the close"}


def _transaction(order: Order, series: Series) -> Transaction:
    return {
        "time": series.bars[order.bar].time,
        "side": "buy" if order.is_buy else "sell",
        "price": order.price,
        "quantity": order.quantity,
        "value": order.value,
        "cost": order.commission,
        "cash": order.cash,
    }


def _batches(orders: list[Transaction]) -> Iterator[list[Transaction]]:
    """Yield orders in batches that fit in an event."""
    for at in range(0, len(orders), _TRANSACTIONS_AT_ONCE):
        yield orders[at : at + _TRANSACTIONS_AT_ONCE]
