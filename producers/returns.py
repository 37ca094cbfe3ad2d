"""Returns travel in batches: one record holds many, all of portfolios of one partition.

What costs a stream processor is the Kafka message, some 100 µs, not the arithmetic on it; so the
producer gathers what a tick brings, and picks the partition itself, by portfolio, with Kafka's own
hash. A portfolio's returns thereby stay in order, and beside its measures and alerts.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from kafka_io.errors import InvalidReport, ProducerError
from kafka_io.publisher import Publisher
from producers.progress import NAME_CHARS_MAX
from schemas.events import Return, ReturnBatch
from schemas.topics import PORTFOLIO_RETURNS

BATCH_RETURNS_MAX = 200
"""Beyond some 200 returns a record, larger batches bring no more speed, only latency."""


class ReturnsPublisher:
    """Publishes returns, a tick's worth at a time."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._partitions: dict[str, int] = {}

    async def send(self, returns: Iterable[Return]) -> None:
        """Write returns, in order for each portfolio, and wait until Kafka has them.

        Values that are not finite are written too: judging data is the processors' work, and their
        refusal is on record.

        Raises:
            InvalidReport: a portfolio's name is empty or longer than 256 characters.
            Unsent: Kafka has not acknowledged in time; what was taken stays in the buffer.
        """
        by_partition: defaultdict[int, list[Return]] = defaultdict(list)
        for one in returns:
            by_partition[await self._partition_of(one.portfolio_id)].append(one)
        try:
            async with asyncio.TaskGroup() as sends:
                for partition, many in by_partition.items():
                    sends.create_task(self._send_to(partition, many))
        except* ProducerError as errors:
            raise errors.exceptions[0] from None  # one reason is enough: they share it

    async def _send_to(self, partition: int, returns: list[Return]) -> None:
        for some in _batched(returns):
            await self._publisher.publish(ReturnBatch(returns=some), partition=partition)

    async def _partition_of(self, portfolio_id: str) -> int:
        partition = self._partitions.get(portfolio_id)
        if partition is None:
            if not 1 <= len(portfolio_id) <= NAME_CHARS_MAX:
                raise InvalidReport(
                    f"portfolio_id has {len(portfolio_id)} characters; "
                    f"it must have 1 to {NAME_CHARS_MAX}"
                )
            key = portfolio_id.encode()
            partition = await self._publisher.partition_for(PORTFOLIO_RETURNS, key)
            self._partitions[portfolio_id] = partition
        return partition


def _batched(returns: list[Return]) -> Iterable[list[Return]]:
    return (
        returns[start : start + BATCH_RETURNS_MAX]
        for start in range(0, len(returns), BATCH_RETURNS_MAX)
    )
