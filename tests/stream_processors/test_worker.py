"""Workers that come, go, freeze and thaw while they share a group, in virtual time."""

import asyncio
from collections.abc import Iterable

import pytest

from stream_processors import worker as worker_module
from stream_processors.errors import RecoveryStuck, TopicGrown
from stream_processors.messages import TopicPartition
from tests.support.fake_group import (
    INPUT,
    NUMBERS,
    FakeCluster,
    FakeMember,
    RunningTotals,
    straight,
    written,
)

pytestmark = pytest.mark.virtual_time


def partitions(numbers: Iterable[int]) -> set[TopicPartition]:
    return {TopicPartition(INPUT.name, number) for number in numbers}


class Group:
    """Divides the partition numbers among the members that it takes for alive."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.members: list[FakeMember] = []
        self.late: list[tuple[FakeMember, set[TopicPartition]]] = []
        """What frozen members will hear when they thaw: that they have lost these partitions."""

    async def rebalance(self) -> None:
        """Take all partitions from the members that can hear it, and give them anew."""
        alive = [member for member in self.members if member.thawed.is_set()]
        for member in self.members:
            held = partitions(member.worker.numbers)
            if member.thawed.is_set():
                await member.listener.revoked(held)
            else:
                self.late.append((member, held))
        numbers = list(range(NUMBERS))
        self.cluster.dice.shuffle(numbers)
        for index, member in enumerate(alive):
            await member.listener.assigned(partitions(numbers[index :: len(alive)]))

    async def thaw(self, member: FakeMember) -> None:
        """Let a member go on; it hears of its loss only some time later."""
        member.thawed.set()
        await asyncio.sleep(self.cluster.dice.uniform(0, 3))
        for late in [late for late in self.late if late[0] is member]:
            self.late.remove(late)
            await member.listener.revoked(late[1])
        await self.rebalance()


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_the_members_do_the_log_is_that_of_a_straight_run(seed: int) -> None:
    cluster = FakeCluster(seed)
    group = Group(cluster)
    dice = cluster.dice
    async with asyncio.TaskGroup() as tasks:

        async def come() -> None:
            member = FakeMember(cluster)
            working.append(tasks.create_task(member.worker.run()))
            await member.joined.wait()
            group.members.append(member)
            await group.rebalance()

        async def write() -> None:
            for number in range(200):
                cluster.append(dice.randrange(NUMBERS), dice.choice("abc"), number)
                await asyncio.sleep(dice.uniform(0, 0.5))

        working: list[asyncio.Task[None]] = []
        await come()
        writing = tasks.create_task(write())
        while not writing.done():
            await asyncio.sleep(dice.uniform(0, 6))
            frozen = [member for member in group.members if not member.thawed.is_set()]
            match dice.randrange(5):
                case 0 if len(group.members) < 4:
                    await come()
                case 1 if frozen:
                    await group.thaw(dice.choice(frozen))
                case 2 if len(group.members) - len(frozen) > 1:
                    dice.choice([m for m in group.members if m not in frozen]).thawed.clear()
                    await asyncio.sleep(dice.uniform(0, 2))
                    await group.rebalance()
                case 3:
                    cluster.failures += 1
                case _:
                    await group.rebalance()
        for member in group.members:
            if not member.thawed.is_set():
                await group.thaw(member)
        async with asyncio.timeout(600):
            while not cluster.is_done:
                await asyncio.sleep(1)
        for member in group.members:
            await member.worker.stop()
        for task in working:
            task.cancel()
    assert written(cluster) == straight(cluster)


async def test_a_second_assignment_during_recovery_is_the_one_that_counts() -> None:
    cluster = FakeCluster(slowest_s=5.0)
    member = FakeMember(cluster)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(member.worker.run())
        await member.joined.wait()
        for numbers in ((0, 1), (1, 2), (0, 1, 2)):
            await member.listener.revoked(partitions(member.worker.numbers))
            await member.listener.assigned(partitions(numbers))
            await asyncio.sleep(3)
        cluster.append(0, "a", 1)
        async with asyncio.timeout(120):
            while not cluster.is_done:
                await asyncio.sleep(1)
        assert member.ready == 1
        working.cancel()
    assert written(cluster) == straight(cluster)


async def test_a_recovery_that_does_not_come_to_an_end_ends_the_worker() -> None:
    cluster = FakeCluster()
    cluster.is_away = True
    member = FakeMember(cluster)
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(member.worker.run())
            await member.joined.wait()
            await member.listener.assigned(partitions([0]))
    assert ended.group_contains(RecoveryStuck, match="partition number 0 has not recovered")
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(
        worker_module.RECOVERY_S, abs=1
    )


async def test_a_topic_with_more_partitions_than_the_catalogue_ends_the_worker() -> None:
    member = FakeMember(FakeCluster())
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(member.worker.run())
            await member.joined.wait()
            await member.listener.assigned(partitions([NUMBERS]))
    assert ended.group_contains(TopicGrown, match=r"market\.trades has partition 3, but a topic")


async def test_an_error_of_a_processor_ends_the_worker() -> None:
    class Broken(RunningTotals):
        async def process(self, *_: object) -> None:
            raise ZeroDivisionError

    cluster = FakeCluster()
    cluster.append(0, "a", 1)
    member = FakeMember(cluster, Broken())
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(member.worker.run())
            await member.joined.wait()
            await member.listener.assigned(partitions([0]))
    assert ended.group_contains(ZeroDivisionError)
    assert cluster.committed == {}
