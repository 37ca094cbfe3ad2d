from typing import Any, cast

import pytest

from kafka_io.errors import InvalidReport, Unsent
from kafka_io.publisher import Publisher
from producers.returns import BATCH_RETURNS_MAX, ReturnsPublisher
from schemas.events import Return, ReturnBatch


class MemoryPublisher:
    """Has two partitions; a portfolio's last character chooses."""

    def __init__(self, tenant: str | None = None) -> None:
        self.tenant = tenant
        self.partitions = 2
        self.batches: list[tuple[int, ReturnBatch]] = []
        self.keys: list[bytes] = []
        self.tenants: list[str] = []
        self.lookups = 0
        self.is_away = False

    async def partition_for(self, _: Any, key: bytes) -> int:
        self.lookups += 1
        self.keys.append(key)
        return key[-1] % self.partitions

    async def publish(self, batch: ReturnBatch, *, partition: int, tenant: str) -> None:
        if self.is_away:
            raise Unsent("Kafka is away", 1)
        self.batches.append((partition, batch))
        self.tenants.append(tenant)


def returns_of(memory: MemoryPublisher) -> ReturnsPublisher:
    return ReturnsPublisher(cast("Publisher", memory))


def series(portfolio: str, count: int) -> list[Return]:
    return [Return(portfolio, number, number / 1e6) for number in range(count)]


async def test_each_portfolios_returns_keep_their_order_in_one_partition() -> None:
    memory = MemoryPublisher()
    await returns_of(memory).send([*series("p0", 450), *series("p1", 3)])
    for portfolio, partition in (("p0", 0), ("p1", 1)):
        batches = [batch for number, batch in memory.batches if number == partition]
        found = [value for batch in batches for value in batch.returns]
        assert found == series(portfolio, len(found))
    assert max(len(batch.returns) for _, batch in memory.batches) == BATCH_RETURNS_MAX
    assert memory.lookups == 2


async def test_a_topic_that_grows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryPublisher()
    publisher = returns_of(memory)
    await publisher.send(series("p3", 1))
    memory.partitions = 4
    await publisher.send(series("p3", 1))
    monkeypatch.setattr(publisher, "_forget_s", 0.0)  # as after some seconds
    await publisher.send(series("p3", 1))
    assert [partition for partition, _ in memory.batches] == [1, 1, 3]


async def test_values_that_are_not_finite_are_written() -> None:
    memory = MemoryPublisher()
    await returns_of(memory).send([Return("p0", 1, float("nan"))])
    assert len(memory.batches) == 1


@pytest.mark.parametrize("name", ["", "x" * 257])
async def test_a_portfolios_name_has_bounds(name: str) -> None:
    with pytest.raises(InvalidReport, match="portfolio_id has"):
        await returns_of(MemoryPublisher()).send([Return(name, 1, 0.0)])


async def test_all_partitions_failing_is_one_error() -> None:
    memory = MemoryPublisher()
    memory.is_away = True
    with pytest.raises(Unsent):
        await returns_of(memory).send([*series("p0", 1), *series("p1", 1)])


async def test_a_batch_is_of_one_tenant_and_goes_where_its_portfolios_are() -> None:
    memory = MemoryPublisher(tenant="acme")
    publisher = returns_of(memory)
    for tenant in (None, "blue", ""):  # the publisher's own, another one, and none
        await publisher.send(series("p0", 2), tenant=tenant)
    assert memory.keys == [b"acme\xffp0", b"blue\xffp0", b"p0"]
    assert memory.tenants == ["acme", "blue", ""]
