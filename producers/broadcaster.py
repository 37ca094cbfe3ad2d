"""The reporter API: calls by which training loops, backtests and risk checks report.

`get_sse_broadcaster()` returns the broadcaster of this process. A send returns when Kafka has the
event, so nothing is lost if the program ends right after it. `BlockingBroadcaster` has the same
calls for code without asyncio.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import cache, update_wrapper
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar
from weakref import WeakKeyDictionary

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher, RecordMetadata
from kafka_io.settings import ProducerSettings
from producers.loop_thread import LoopThread
from producers.progress import (
    backtest_progress,
    dashboard_update,
    risk_alert,
    training_progress,
    user_update,
)
from schemas.events import Event

P = ParamSpec("P")
T = TypeVar("T")


@cache
def get_sse_broadcaster() -> "SSEBroadcaster":
    """Return the broadcaster of this process, with settings from the environment."""
    return SSEBroadcaster()


class SSEBroadcaster:
    """Reports progress and alerts, from async code.

    Every send raises `InvalidReport` for a wrong argument, and `Unsent` when Kafka has not
    acknowledged the event within `patience_s`.
    """

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        self._settings = settings or ProducerSettings()
        # A Kafka client works in the event loop only in which it was started.
        self._publishers: WeakKeyDictionary[asyncio.AbstractEventLoop, Publisher] = (
            WeakKeyDictionary()
        )

    async def send_training_progress(
        self,
        task_id: str,
        progress: float,
        status: str,
        message: str = "",
        metrics: object = None,
    ) -> RecordMetadata:
        """Report the progress of a training run, in percent from 0 to 100.

        `status` is started, running, completed, failed, or a word of your own, which goes to the
        clients as it is; the run ends with completed or failed. `metrics` are a mapping of names to
        numbers, or any other value that JSON can hold.
        """
        event = training_progress(task_id, progress, status, message, metrics, now_us=now_us())
        return await self.publish(event)

    async def send_backtest_progress(
        self,
        backtest_id: str,
        progress: float,
        status: str,
        message: str = "",
        current_date: str | None = None,
        results: object = None,
    ) -> RecordMetadata:
        """Report the progress of a backtest, in percent, and the day that it simulates.

        `status` and `results` are like those of `send_training_progress`.
        """
        event = backtest_progress(
            backtest_id, progress, status, message, current_date, results, now_us=now_us()
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
    ) -> RecordMetadata:
        """Report that a check found a metric beyond its threshold."""
        event = risk_alert(
            alert_type,
            severity,
            message,
            metric_name,
            metric_value,
            threshold,
            entity_type,
            entity_id,
            now_us=now_us(),
        )
        return await self.publish(event)

    async def send_dashboard_update(
        self, values: Mapping[str, float], update_type: str = "custom"
    ) -> RecordMetadata:
        """Report figures for the dashboard stream."""
        return await self.publish(dashboard_update(values, update_type, now_us=now_us()))

    async def send_user_update(
        self, user_id: str, data: object, kind: str = "update"
    ) -> RecordMetadata:
        """Send an update to one user, or a `fatal_error` that ends the user's stream."""
        return await self.publish(user_update(user_id, data, kind, now_us=now_us()))

    async def publish(self, event: Event, *, tenant: str | None = None) -> RecordMetadata:
        """Write any registered event, of a tenant if one is given."""
        loop = asyncio.get_running_loop()
        publisher = self._publishers.get(loop)
        if publisher is None:
            publisher = self._publishers[loop] = Publisher(self._settings)
        return await publisher.publish(event, tenant=tenant)

    async def flush(self) -> None:
        """Wait for the events that earlier sends left in the buffer."""
        publisher = self._publishers.get(asyncio.get_running_loop())
        if publisher is not None:
            await publisher.flush()

    async def close(self) -> None:
        """Flush, and close the connections to Kafka."""
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


def _blocking(
    method: Callable[Concatenate[SSEBroadcaster, P], Coroutine[object, object, T]],
) -> Callable[Concatenate["BlockingBroadcaster", P], T]:
    """Return an async method as a blocking one, with the same arguments and errors."""

    def call(self: "BlockingBroadcaster", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method(self.broadcaster, *args, **kwargs))

    update_wrapper(call, method)
    return call


class BlockingBroadcaster(LoopThread):
    """The reporter API for code without asyncio, such as a plain training loop.

    Use it in `with`: leaving the block flushes. The calls raise the errors of `SSEBroadcaster`, and
    any thread may make them.
    """

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        super().__init__("tapewire-broadcaster")
        self.broadcaster = SSEBroadcaster(settings)

    send_training_progress = _blocking(SSEBroadcaster.send_training_progress)
    send_backtest_progress = _blocking(SSEBroadcaster.send_backtest_progress)
    send_risk_alert = _blocking(SSEBroadcaster.send_risk_alert)
    send_dashboard_update = _blocking(SSEBroadcaster.send_dashboard_update)
    send_user_update = _blocking(SSEBroadcaster.send_user_update)
    flush = _blocking(SSEBroadcaster.flush)

    def close(self) -> None:
        """Flush, close the connections to Kafka, and end the thread."""
        try:
            self.run(self.broadcaster.close())
        finally:
            super().close()
