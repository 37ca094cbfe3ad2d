from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from hypothesis import given, strategies as st

from kafka_io.assignor import Claim, ClaimAssignor, NumberAssignor

TOPICS = ("a", "b", "c")


class Cluster:
    """The numbers of partitions of some topics."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._counts[topic])) if topic in self._counts else None


def assigned(counts: Mapping[str, int], members: int) -> dict[str, dict[str, list[int]]]:
    metadata = NumberAssignor.metadata(TOPICS)
    found = NumberAssignor.assign(
        cast("Any", Cluster(counts)), {f"m{number}": metadata for number in range(members)}
    )
    return {name: dict(cast("Any", share).assignment) for name, share in found.items()}


@given(st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 20)), st.integers(1, 5))
def test_each_partition_has_one_member_and_so_has_each_number(
    counts: dict[str, int], members: int
) -> None:
    shares = assigned(counts, members)
    found = sorted(
        (topic, number)
        for share in shares.values()
        for topic, numbers in share.items()
        for number in numbers
    )
    expected = [(topic, number) for topic in counts for number in range(counts[topic])]
    assert found == sorted(expected)
    numbers = [
        {number for numbers in share.values() for number in numbers} for share in shares.values()
    ]
    assert sum(map(len, numbers)) == len(set().union(*numbers))


def test_the_numbers_that_few_topics_have_are_shared_too() -> None:
    shares = assigned({"a": 2, "b": 4}, 2)
    assert shares == {"m0": {"a": [0], "b": [0, 2]}, "m1": {"a": [1], "b": [1, 3]}}


def assignor(*claims: Claim) -> ClaimAssignor:
    return ClaimAssignor(lambda: claims)


def divided(
    counts: Mapping[str, int], claims: Mapping[str, Sequence[Claim]]
) -> dict[str, set[tuple[str, int]]]:
    """Return the partitions of each member, by its claims."""
    members = {name: assignor(*claim).metadata(TOPICS) for name, claim in claims.items()}
    found = assignor().assign(cast("Any", Cluster(counts)), members)
    return {
        name: {
            (topic, number)
            for topic, numbers in cast("Any", share).assignment
            for number in numbers
        }
        for name, share in found.items()
    }


CLAIMS = st.builds(Claim, st.sampled_from(TOPICS), st.integers(0, 20), st.integers(1, 3))


@given(
    st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 20)),
    st.dictionaries(st.sampled_from("mnopq"), st.lists(CLAIMS, max_size=3), min_size=1),
)
def test_a_claimed_partition_goes_to_its_last_owner_and_the_others_are_shared_evenly(
    counts: dict[str, int], claims: dict[str, list[Claim]]
) -> None:
    shares = divided(counts, claims)
    found = sorted(partition for share in shares.values() for partition in share)
    every = [(topic, number) for topic in counts for number in range(counts[topic])]
    assert found == sorted(every)
    made = [claim for own in claims.values() for claim in own if claim[:2] in every]
    most = {name: len({claim[:2] for claim in own}) for name, own in claims.items()}
    least = min(len(share) for share in shares.values())
    assert all(len(share) <= max(most[name], least + 1) for name, share in shares.items())
    for partition in {claim[:2] for claim in made}:
        last = max(claim.generation for claim in made if claim[:2] == partition)
        (owner,) = (name for name, share in shares.items() if partition in share)
        assert Claim(*partition, last) in claims[owner]


def test_members_of_an_earlier_version_take_part_and_claim_nothing() -> None:
    members = {
        "new": assignor(Claim("a", 1, 7)).metadata(["a"]),
        "old": RoundRobinPartitionAssignor.metadata(["a"]),
    }
    assert ClaimAssignor.name == RoundRobinPartitionAssignor.name
    cluster = cast("Any", Cluster({"a": 2}))
    shares = assignor().assign(cluster, members)
    assert cast("Any", shares["new"]).assignment == [("a", [1])]
    assert cast("Any", shares["old"]).assignment == [("a", [0])]
    by_the_old = RoundRobinPartitionAssignor.assign(cluster, members)
    assert sum(len(share.partitions()) for share in by_the_old.values()) == 2
