"""Workers that come, go, freeze and thaw while they share a group, in virtual time."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import pytest

from kafka_io.errors import Unread
from schemas.topics import TopicPartition
from stream_processors import worker as worker_module
from stream_processors.errors import RecoveryStuck, TopicGrown
from stream_processors.log_marks import RecordMark
from stream_processors.processor import Round
from stream_processors.stream_task import Recovered
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


async def run_with(member: FakeMember, numbers: Iterable[int]) -> None:
    """Run a worker with these partition numbers until it ends."""

    async def assign() -> None:
        await member.joined.wait()
        await member.listener.assigned(partitions(numbers))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(assign())
        await member.worker.run()


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


class Story:
    """Members that join, freeze, thaw and fail while a producer writes."""

    def __init__(self, seed: int, tasks: asyncio.TaskGroup) -> None:
        self.cluster = FakeCluster(seed)
        self.group = Group(self.cluster)
        self.dice = self.cluster.dice
        self._tasks = tasks
        self._working: list[asyncio.Task[None]] = []
        self._frozen_s: dict[FakeMember, float] = {}

    @property
    def frozen(self) -> list[FakeMember]:
        return [member for member in self.group.members if not member.thawed.is_set()]

    async def come(self) -> None:
        member = FakeMember(self.cluster)
        self._working.append(self._tasks.create_task(member.worker.run()))
        await member.joined.wait()
        self.group.members.append(member)
        await self.group.rebalance()

    async def freeze(self) -> None:
        alive = [member for member in self.group.members if member not in self.frozen]
        member = self.dice.choice(alive)
        member.thawed.clear()
        self._frozen_s[member] = asyncio.get_running_loop().time()
        await asyncio.sleep(self.dice.uniform(0, 2))
        await self.group.rebalance()

    async def write(self) -> None:
        for number in range(200):
            self.cluster.append(self.dice.randrange(NUMBERS), self.dice.choice("abc"), number)
            await asyncio.sleep(self.dice.uniform(0, 0.5))

    async def something(self) -> None:
        """Let something happen to the group."""
        members, frozen = self.group.members, self.frozen
        now_s = asyncio.get_running_loop().time()
        for (
            member
        ) in frozen:  # the clock of its recovery runs on, which that of a process would not
            if now_s - self._frozen_s[member] > worker_module.RECOVERY_S / 2:
                await self.group.thaw(member)
                return
        match self.dice.randrange(5):
            case 0 if len(members) < 4:
                await self.come()
            case 1 if frozen:
                await self.group.thaw(self.dice.choice(frozen))
            case 2 if len(members) - len(frozen) > 1:
                await self.freeze()
            case 3:
                self.cluster.failures += 1
            case _:
                await self.group.rebalance()

    async def end(self) -> None:
        """Let everybody go on to the end of the log, and leave."""
        for member in self.frozen:
            await self.group.thaw(member)
        await self.cluster.done()
        for member in self.group.members:
            await member.worker.stop()
        for task in self._working:
            task.cancel()


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_the_members_do_the_log_is_that_of_a_straight_run(seed: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        story = Story(seed, tasks)
        await story.come()
        writing = tasks.create_task(story.write())
        while not writing.done():
            await asyncio.sleep(story.dice.uniform(0, 6))
            await story.something()
        await story.end()
    assert written(story.cluster) == straight(story.cluster)


class Successor(FakeMember):
    """Thaws its predecessor when it has read the states, as late as it could do harm."""

    def __init__(self, cluster: FakeCluster, predecessor: FakeMember) -> None:
        super().__init__(cluster)
        self.predecessor = predecessor

    async def recover(self, number: int, marks: Mapping[str, Sequence[RecordMark]]) -> Recovered:
        found = await super().recover(number, marks)
        if not self.predecessor.thawed.is_set():
            self.predecessor.thawed.set()
            await asyncio.sleep(1)  # the predecessor goes on with what it was about to write
        return found


async def test_a_predecessor_is_fenced_before_its_states_are_read() -> None:
    cluster = FakeCluster()
    first = FakeMember(cluster)
    second = Successor(cluster, first)
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(member.worker.run()) for member in (first, second)]
        await first.joined.wait()
        await second.joined.wait()
        await first.listener.assigned(partitions([0]))
        await asyncio.sleep(3)
        for number in range(5):
            cluster.append(0, "a", number)
        await first.began_commit.wait()
        first.thawed.clear()
        await second.listener.assigned(partitions([0]))
        await cluster.done()
        for task in working:
            task.cancel()
    assert written(cluster) == straight(cluster)
    assert first.metrics.fenced == 1


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
        await cluster.done()
        assert member.ready == 1
        await asyncio.sleep(60)
        assert member.ready == 1
        working.cancel()
    assert written(cluster) == straight(cluster)


async def test_a_recovery_that_does_not_come_to_an_end_ends_the_worker() -> None:
    cluster = FakeCluster()
    cluster.is_away = True
    member = FakeMember(cluster)
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(ExceptionGroup) as ended:
        await run_with(member, [0])
    assert ended.group_contains(RecoveryStuck, match="partition number 0 has not recovered")
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(
        worker_module.RECOVERY_S, abs=1
    )


async def test_a_topic_with_more_partitions_than_its_states_ends_the_worker() -> None:
    member = FakeMember(FakeCluster())
    with pytest.raises(ExceptionGroup) as ended:
        await run_with(member, [NUMBERS])
    assert ended.group_contains(TopicGrown, match=r"market\.trades does not have the 3 partitions")


async def test_an_error_of_a_processor_without_a_message_ends_the_worker() -> None:
    class Broken(RunningTotals):
        async def tick(self, this_round: Round) -> None:
            raise ZeroDivisionError(f"a tick of {this_round.number}")

    cluster = FakeCluster()
    member = FakeMember(cluster, Broken(tick_s=1.0))
    with pytest.raises(ExceptionGroup) as ended:
        await run_with(member, [0])
    assert ended.group_contains(ZeroDivisionError)
    assert cluster.committed == {}


@pytest.mark.parametrize("numbers", [[], range(NUMBERS)])
async def test_a_worker_whose_membership_has_ended_ends(numbers: Sequence[int]) -> None:
    member = FakeMember(FakeCluster())

    async def run_and_refuse() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(run_with(member, numbers))
            await asyncio.sleep(1)
            member.refusal = Unread("not a member any more")

    with pytest.raises(ExceptionGroup) as ended:
        await run_and_refuse()
    assert ended.group_contains(Unread, match="not a member any more")


async def test_a_worker_without_partitions_keeps_its_membership_by_fetching() -> None:
    member = FakeMember(FakeCluster())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_with(member, []))
        await asyncio.sleep(1)
        before = member.fetches
        await asyncio.sleep(300)
        assert member.fetches >= before + 60
        running.cancel()
