import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kafka_io import client
from kafka_io.client import faust_brokers, homes_of, partition_of


def test_a_key_has_the_partition_that_java_clients_compute() -> None:
    # Kafka's own test of murmur2 has these: hash & 0x7fffffff, modulo the partitions.
    hashes = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    for key, murmur2 in hashes.items():
        assert partition_of(key, 1000) == (murmur2 & 0x7FFFFFFF) % 1000


@given(st.binary(max_size=40), st.integers(1, 100))
def test_every_key_has_one_partition_of_those_that_exist(key: bytes, partitions: int) -> None:
    found = partition_of(key, partitions)
    assert 0 <= found < partitions
    assert partition_of(key, partitions) == found


@given(st.binary(max_size=40), st.integers(1, 8), st.lists(st.integers(1, 4), max_size=3))
def test_a_keys_records_are_in_the_partitions_that_it_had_before_each_growth(
    key: bytes, fewest: int, factors: list[int]
) -> None:
    count, homes = fewest, {partition_of(key, fewest)}
    for factor in factors:
        count *= factor
        homes.add(partition_of(key, count))
    found = homes_of(key, count, fewest)
    assert homes <= found
    # A growth to a multiple moves keys to new partitions only, so the last home is the highest.
    assert max(homes) == partition_of(key, count) == max(found)
    assert all(home % fewest == min(homes) for home in found)


def test_faust_gets_a_url_for_each_broker() -> None:
    assert faust_brokers("one:9092,two:9093") == ["kafka://one:9092", "kafka://two:9093"]


async def test_a_client_that_never_started_can_be_stopped() -> None:
    await client.stop(client.consumer("localhost:1"))
    await client.stop(client.producer("localhost:1", linger_ms=0))


async def test_stopping_a_client_passes_the_callers_own_cancellation_on() -> None:
    class Stuck:
        async def stop(self) -> None:
            await asyncio.Event().wait()

    stuck: Any = Stuck()
    task = asyncio.get_running_loop().create_task(client.stop(stuck, within_s=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
