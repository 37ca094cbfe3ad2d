"""Divides partitions among the members of a group.

Processors share partitions by number: each number has one member, which gets the partition of that
number of every topic. Topics may differ in their numbers of partitions.

Workers of commands keep the partitions of the commands that they work on; the other partitions are
shared evenly.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)


class NumberAssignor(RangePartitionAssignor):
    """Gives the members the partition numbers in turn.

    Kafka's range assignor keeps a number of all topics together only where they have the same
    number of partitions.
    """

    name = "number"

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Return the partitions of each member."""
        names = sorted(members)
        shares: dict[str, dict[str, list[int]]] = {name: {} for name in names}
        topics = {topic for member in members.values() for topic in member.subscription}
        for topic in sorted(topics):
            # All members of a group read the same topics.
            for number in sorted(cluster.partitions_for_topic(topic) or ()):
                shares[names[number % len(names)]].setdefault(topic, []).append(number)
        return {
            name: ConsumerProtocolMemberAssignment(cls.version, sorted(share.items()), b"")
            for name, share in shares.items()
        }


class Claim(NamedTuple):
    """A member's statement that it works on a partition."""

    topic: str
    partition: int
    generation: int
    """The last generation of the group in which the member had the partition."""


class ClaimAssignor:
    """Leaves partitions with the member that works on them, and shares the others evenly.

    Each member has an instance of its own. A member that was away may claim a partition that
    another member has got since: the claim of the later generation wins.
    """

    name = "roundrobin"
    """The name of aiokafka's default, which members of an earlier version have: they claim nothing.
    A second assignor cannot be offered, since aiokafka joins a group once for each."""
    version = 0

    def __init__(self, claims: Callable[[], Sequence[Claim]]) -> None:
        """Make the assignor of a member.

        Args:
            claims: returns what the member works on; it is called before each rebalance.
        """
        self._claims = claims

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what the member tells the leader of its group."""
        claims = self._claims()
        data = json.dumps(claims).encode() if claims else b""
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), data)

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Return the partitions of each member."""
        topics = {topic for member in members.values() for topic in member.subscription}
        free = {
            (topic, partition)
            for topic in topics
            for partition in cluster.partitions_for_topic(topic) or ()
        }
        shares: dict[str, list[tuple[str, int]]] = {name: [] for name in sorted(members)}
        claims = [
            (Claim(*claim), name)
            for name, member in members.items()
            if member.user_data
            for claim in json.loads(member.user_data)
        ]
        for claim, name in sorted(claims, key=lambda claimed: -claimed[0].generation):
            claimed = (claim.topic, claim.partition)
            if claimed in free:
                free.remove(claimed)
                shares[name].append(claimed)
        for partition in sorted(free):
            min(shares.values(), key=len).append(partition)
        return {
            name: ConsumerProtocolMemberAssignment(self.version, _by_topic(share), b"")
            for name, share in shares.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Do nothing: the member's listener is notified as well."""


def _by_topic(partitions: Iterable[tuple[str, int]]) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        found.setdefault(topic, []).append(partition)
    return list(found.items())
