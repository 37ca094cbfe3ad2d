"""Sends returns until a condition ends it, and reads the measures and alerts that follow."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.returns import ReturnsPublisher
from schemas.events import Return, RiskAlert, RiskMeasure
from tests.conftest import World
from tests.faults.report import Flow
from tests.support.straight_run import (
    TopicReader,
    assert_as_straight,
    endless_days,
    meaning,
    straight_run,
)

DAYS_AT_ONCE = 3
_PATIENCE_S = 600.0


class ReturnsFlow:
    """Sends the returns of trading days, and reads what is measured of them."""

    def __init__(self, world: World, reader: TopicReader, pace_s: float) -> None:
        """Make a flow that has not begun.

        Args:
            world: where workers measure the returns.
            reader: a reader of measures and alerts.
            pace_s: the pause between two sends of some days, in seconds.
        """
        self.measured: dict[str, int] = {}
        """The instant of each portfolio's last measure."""
        self.changed = asyncio.Event()
        """Set when records have come."""
        self._world = world
        self._reader = reader
        self._pace_s = pace_s
        self._days: list[list[Return]] = []
        """The returns that were sent, day by day."""

    @property
    def days(self) -> int:
        """The number of days that were sent."""
        return len(self._days)

    async def send_while(self, goes_on: Callable[[], bool]) -> None:
        """Send some trading days after another."""
        settings = ProducerSettings(
            bootstrap_servers=self._world.kafka.bootstrap_servers,
            topic_prefix=self._world.prefix,
            patience_s=_PATIENCE_S,
        )
        async with Publisher(settings) as publisher:
            returns = ReturnsPublisher(publisher)
            days = endless_days()
            while goes_on():
                batch = [next(days).at_close() for _ in range(DAYS_AT_ONCE)]
                self._days += batch
                await returns.send([item for day in batch for item in day])
                await asyncio.sleep(self._pace_s)

    async def read(self) -> None:
        """Read measures and alerts as they come, until cancelled."""
        while True:
            for record in await self._reader.poll():
                if isinstance(record, RiskMeasure):
                    self.measured[record.portfolio_id] = record.as_of_us
            self.changed.set()

    async def measured_until(self, days: int) -> float:
        """Wait until the returns of the first days are measured; return the time."""
        while not self._are_measured(days):
            self.changed.clear()
            await self.changed.wait()
        return time.monotonic()

    def _are_measured(self, days: int) -> bool:
        return len(self._days) >= days and all(
            self.measured.get(item.portfolio_id, 0) >= item.event_time_us
            for item in self._days[days - 1]
        )

    def account(self) -> Sequence[Flow]:
        """Compare the measures and alerts with those of a straight run."""
        measures, alerts = straight_run(len(self._days))
        found = [item for item in self._reader.records if isinstance(item, RiskAlert)]
        steps = Counter(alert.transition_id for alert in found)
        lost = len({alert.transition_id for alert in alerts} - steps.keys())
        twice = len(found) - len(steps)
        return self._of_measures(measures), Flow("alerts", len(alerts), len(found), lost, twice, 0)

    def check(self) -> None:
        """Assert that the measures and alerts are those of a straight run, each alert once."""
        measures, alerts = straight_run(len(self._days))
        assert_as_straight(self._reader.records, measures, alerts)
        found = [item for item in self._reader.records if isinstance(item, RiskAlert)]
        assert len(found) == len({alert.transition_id for alert in found})

    def _of_measures(self, expected: dict[tuple[str, int], RiskMeasure]) -> Flow:
        found = [item for item in self._reader.records if isinstance(item, RiskMeasure)]
        right, late = 0, 0
        last: dict[str, int] = {}
        for measure in found:
            right += meaning(measure) == meaning(expected[measure.portfolio_id, measure.as_of_us])
            late += measure.as_of_us < last.get(measure.portfolio_id, 0)
            last[measure.portfolio_id] = measure.as_of_us
        ends: dict[str, int] = {}
        for name, at in expected:
            ends[name] = max(at, ends.get(name, 0))
        lost = len(ends.items() - last.items())
        repeated = len(found) - len({(item.portfolio_id, item.as_of_us) for item in found})
        return Flow("measures", len(found), right, lost, repeated, late)
