"""Divides partitions among the members of a group by partition number.

Each number has one member, which gets the partition of that number of every topic. Topics may
differ in their numbers of partitions.
"""

from collections.abc import Mapping

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
