"""Bounds how many things of a kind a user or tenant may have.

The things are counted in the tables of this node, which have what is written within moments, and
jobs once a processor has seen them. Until then the rate of writes bounds them.
"""

from collections.abc import Collection, Hashable

from sse_edge.errors import QuotaReached


def refuse_beyond(most: int, present: Collection[Hashable], new: Hashable, kind: str) -> None:
    """Return if a caller may have a thing, besides those that it has.

    Args:
        most: how many it may have.
        present: the names of those that it has.
        new: the name of the thing; to replace one of the same name is always allowed.
        kind: what the things are, in the plural.

    Raises:
        QuotaReached: it has as many as it may.
    """
    if new not in present and len(present) >= most:
        raise QuotaReached(f"there are {len(present)} {kind}, and no more than {most} are allowed")
