"""The reporter: the calls that training loops, backtests and risk checks already make.

`get_sse_broadcaster()` gives the one of this process. A send returns when the event is in Kafka,
so that nothing is lost when the program ends right after it. `BlockingBroadcaster` has the same
calls for code that knows nothing of asyncio.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping
from functools import cache
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakKeyDictionary

from producers.progress import (
    backtest_progress,
    dashboard_update,
    risk_alert,
    training_progress,
)
from producers.publisher import Position, Publisher
from producers.settings import ProducerSettings
from schemas.events import Event

T = TypeVar("T")


@cache
def get_sse_broadcaster() -> "SSEBroadcaster":
    """The broadcaster of this process, with settings from the environment."""
    return SSEBroadcaster()


class SSEBroadcaster:
    """Reports progress and alerts, from async code.

    Every send raises `InvalidReport` for a wrong argument, and `Unsent` when Kafka has not
    acknowledged the event within `patience_s`.
    """

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        self._settings = settings or ProducerSettings()
        # A Kafka client belongs to the event loop that it was started in.
        self._publishers: WeakKeyDictionary[asyncio.AbstractEventLoop, Publisher] = (
            WeakKeyDictionary()
        )

    async def send_training_progress(
        self,
        task_id: str,
        progress: float,
        status: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> Position:
        """Report how far a training run has come, in percent."""
        event = training_progress(task_id, progress, status, message, metrics, now_us=_now_us())
        return await self.publish(event)

    async def send_backtest_progress(
        self,
        backtest_id: str,
        progress: float,
        status: str,
        message: str = "",
        current_date: str | None = None,
        results: Mapping[str, float] | None = None,
    ) -> Position:
        """Report how far a backtest has come, in percent, and the day that it simulates."""
        event = backtest_progress(
            backtest_id, progress, status, message, current_date, results, now_us=_now_us()
        )
        return await self.publish(event)

    async def send_risk_alert(
        self,
        alert_type: str,
        severity: str,
        message: str,
        metric_name: str,
        metric_value: float,
        threshold: float,
        entity_type: str,
        entity_id: str,
    ) -> Position:
        """Report that a check of your own found a metric beyond its threshold."""
        event = risk_alert(
            alert_type,
            severity,
            message,
            metric_name,
            metric_value,
            threshold,
            entity_type,
            entity_id,
            now_us=_now_us(),
        )
        return await self.publish(event)

    async def send_dashboard_update(
        self, values: Mapping[str, float], update_type: str = "custom"
    ) -> Position:
        """Report figures of your own for the dashboard stream."""
        return await self.publish(dashboard_update(values, update_type, now_us=_now_us()))

    async def publish(self, event: Event) -> Position:
        """Write any event of the catalogue."""
        loop = asyncio.get_running_loop()
        publisher = self._publishers.get(loop)
        if publisher is None:
            publisher = self._publishers[loop] = Publisher(self._settings)
        return await publisher.publish(event)

    async def flush(self) -> None:
        """Wait for what earlier sends gave up waiting for."""
        publisher = self._publishers.get(asyncio.get_running_loop())
        if publisher is not None:
            await publisher.flush()

    async def close(self) -> None:
        """Flush, and let go of Kafka."""
        publisher = self._publishers.pop(asyncio.get_running_loop(), None)
        if publisher is not None:
            await publisher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class BlockingBroadcaster:
    """The same reports from code without asyncio, such as a plain training loop.

    Use it in `with`: leaving the block flushes. The calls raise what `SSEBroadcaster`'s do, and
    may come from any thread.
    """

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        self._broadcaster = SSEBroadcaster(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tapewire-broadcaster", daemon=True
        )
        self._thread.start()

    def send_training_progress(
        self,
        task_id: str,
        progress: float,
        status: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> Position:
        """Report how far a training run has come, in percent."""
        return self._run(
            self._broadcaster.send_training_progress(task_id, progress, status, message, metrics)
        )

    def send_backtest_progress(
        self,
        backtest_id: str,
        progress: float,
        status: str,
        message: str = "",
        current_date: str | None = None,
        results: Mapping[str, float] | None = None,
    ) -> Position:
        """Report how far a backtest has come, in percent, and the day that it simulates."""
        return self._run(
            self._broadcaster.send_backtest_progress(
                backtest_id, progress, status, message, current_date, results
            )
        )

    def send_risk_alert(
        self,
        alert_type: str,
        severity: str,
        message: str,
        metric_name: str,
        metric_value: float,
        threshold: float,
        entity_type: str,
        entity_id: str,
    ) -> Position:
        """Report that a check of your own found a metric beyond its threshold."""
        return self._run(
            self._broadcaster.send_risk_alert(
                alert_type,
                severity,
                message,
                metric_name,
                metric_value,
                threshold,
                entity_type,
                entity_id,
            )
        )

    def send_dashboard_update(
        self, values: Mapping[str, float], update_type: str = "custom"
    ) -> Position:
        """Report figures of your own for the dashboard stream."""
        return self._run(self._broadcaster.send_dashboard_update(values, update_type))

    def flush(self) -> None:
        """Wait for what earlier sends gave up waiting for."""
        self._run(self._broadcaster.flush())

    def close(self) -> None:
        """Flush, let go of Kafka, and end the thread."""
        try:
            self._run(self._broadcaster.close())
        finally:
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

    def _run(self, call: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


def _now_us() -> int:
    return time.time_ns() // 1000
