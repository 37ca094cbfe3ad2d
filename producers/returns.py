"""Publishes returns in batches: one record holds many returns of portfolios of one partition.

The cost of a return for a stream processor is the Kafka message, some 100 µs, not the arithmetic.
So the publisher batches the returns of a tick, and chooses the partition of a portfolio with
Kafka's own hash. A portfolio's returns thereby stay in order, and in the partition of its measures
and alerts.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from kafka_io.errors import InvalidReport, ProducerError
from kafka_io.publisher import Publisher
from producers.progress import NAME_CHARS_MAX
from schemas.events import Return, ReturnBatch
from schemas.keys import encode_key
from schemas.topics import PORTFOLIO_RETURNS

BATCH_RETURNS_MAX = 200
"""Batches beyond some 200 returns add latency, and no speed."""
_PARTITIONS_KNOWN_S = 5.0
"""How long the partitions of portfolios are remembered; the topic may have grown since."""


class ReturnsPublisher:
    """Publishes the returns of a tick at a time."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._partitions: dict[tuple[str, str | None], int] = {}
        """By portfolio and tenant."""
        self._forget_s = 0.0
        """When the remembered partitions are looked up again, by the loop's clock."""

    async def send(
        self, returns: Iterable[Return], *, lap: int = 0, tenant: str | None = None
    ) -> None:
        """Write returns, in order for each portfolio, and wait until Kafka has them.

        Values that are not finite are written too: processors judge data, and record their
        refusal.

        Args:
            returns: the returns of a tick.
            lap: the lap of a replay of past returns; a higher one than before begins the history
                of a portfolio again. Leave it out for returns that are observed.
            tenant: the portfolios' tenant; None for the publisher's own, empty for none.

        Raises:
            InvalidReport: a portfolio's name is empty or longer than 256 characters.
            Unsent: Kafka has not acknowledged in time; the accepted returns stay in the buffer.
        """
        tenant = (self._publisher.tenant if tenant is None else tenant) or None
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._forget_s:
            self._partitions.clear()
            self._forget_s = now_s + _PARTITIONS_KNOWN_S
        by_partition: defaultdict[int, list[Return]] = defaultdict(list)
        for value in returns:
            by_partition[await self._partition_of(value.portfolio_id, tenant)].append(value)
        try:
            async with asyncio.TaskGroup() as sends:
                for partition, batch in by_partition.items():
                    sends.create_task(self._send_to(partition, batch, lap, tenant))
        except* ProducerError as errors:
            raise errors.exceptions[0] from None  # all batches fail for the same reason

    async def _send_to(
        self, partition: int, returns: list[Return], lap: int, tenant: str | None
    ) -> None:
        for batch in _batched(returns):
            event = ReturnBatch(returns=batch, lap=lap)
            await self._publisher.publish(event, partition=partition, tenant=tenant or "")

    async def _partition_of(self, portfolio_id: str, tenant: str | None) -> int:
        partition = self._partitions.get((portfolio_id, tenant))
        if partition is None:
            if not 1 <= len(portfolio_id) <= NAME_CHARS_MAX:
                raise InvalidReport(
                    f"portfolio_id has {len(portfolio_id)} characters; "
                    f"it must have 1 to {NAME_CHARS_MAX}"
                )
            key = encode_key(portfolio_id, tenant)
            partition = await self._publisher.partition_for(PORTFOLIO_RETURNS, key)
            self._partitions[portfolio_id, tenant] = partition
        return partition


def _batched(returns: list[Return]) -> Iterable[list[Return]]:
    return (
        returns[start : start + BATCH_RETURNS_MAX]
        for start in range(0, len(returns), BATCH_RETURNS_MAX)
    )
