"""Decides until when a topic holds the records of a tenant, by its settings in Kafka. Pure.

Kafka deletes and compacts whole segments of a partition. A segment is closed by the first record
that comes after its `segment.ms`, so the record that is followed by others in its segment outlives
its own `retention.ms` by so much at most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.tenant_shares import Share
from schemas.instants import to_rfc3339
from schemas.topics import DAY_MS, has_rows

_FOR_EVER = -1
_UNBOUNDED_MS = 1 << 60
"""Kafka's defaults for no bound are about the largest number of 64 bits."""
_SEGMENT_MS = 7 * DAY_MS
_TOMBSTONE_MS = DAY_MS
"""The defaults of Kafka, for a client that may not read the settings."""


@dataclass(frozen=True, slots=True)
class Fate:
    """Until when a topic holds what it holds of a tenant."""

    is_erasable: bool
    """Whether tombstones erase the records, so that readers forget them at once."""
    is_kept_for_ever: bool = False
    """Whether nothing in the topic's settings ever deletes the records."""
    from_ms: int | None = None
    """The earliest time at which Kafka may delete the newest record, in milliseconds since 1970."""
    until_ms: int | None = None
    """The time at which the records are deleted at the latest; None if there is no bound."""
    keys_until_ms: int | None = None
    """The same of the tombstones, which hold the keys; None where there are none."""


def fate_of(share: Share, config: Mapping[str, str], erased_ms: int | None = None) -> Fate:
    """Return what becomes of a tenant's records.

    Args:
        share: what the topic holds of the tenant.
        config: the topic's settings in Kafka; empty where they are not known.
        erased_ms: when the tombstones are written, in milliseconds since 1970; None for never.
    """
    known = share.topic.config() | dict(config)
    policies = set(known["cleanup.policy"].replace(" ", "").split(","))
    retention_ms = int(known.get("retention.ms", _FOR_EVER)) if "delete" in policies else _FOR_EVER
    segment_ms = int(known.get("segment.ms", _SEGMENT_MS))
    from_ms = until_ms = keys_until_ms = None
    if retention_ms != _FOR_EVER and share.newest_ms is not None:
        from_ms = share.newest_ms + retention_ms
        until_ms = from_ms + segment_ms
    is_compacted = "compact" in policies
    if is_compacted and erased_ms is not None:
        lag_ms = int(known.get("max.compaction.lag.ms", _UNBOUNDED_MS))
        if lag_ms < _UNBOUNDED_MS:
            within_ms = segment_ms + max(lag_ms, int(known.get("min.compaction.lag.ms", 0)))
            compacted_ms = erased_ms + within_ms
            until_ms = compacted_ms if until_ms is None else min(until_ms, compacted_ms)
            kept_ms = int(known.get("delete.retention.ms", _TOMBSTONE_MS))
            keys_until_ms = compacted_ms + kept_ms + within_ms
    return Fate(
        is_erasable=is_compacted,
        is_kept_for_ever=not is_compacted and retention_ms == _FOR_EVER,
        from_ms=from_ms,
        until_ms=until_ms,
        keys_until_ms=keys_until_ms,
    )


def row_of(share: Share, fate: Fate) -> dict[str, Any]:
    """Return a topic's row of an account, for a program."""
    return {
        "topic": share.name,
        "records": share.records,
        "tombstones": share.tombstones,
        "bytes": share.size_bytes,
        "oldest": _instant(share.oldest_ms),
        "newest": _instant(share.newest_ms),
        "unread": dict(share.unread),
        "keys": len(share.rows),
        "erasable": fate.is_erasable,
        "kept_for_ever": fate.is_kept_for_ever,
        "expires_from": _instant(fate.from_ms),
        "expires_by": _instant(fate.until_ms),
        "keys_expire_by": _instant(fate.keys_until_ms),
    }


def lines_found(shares: Sequence[tuple[Share, Fate]]) -> list[str]:
    """Return the lines of what the log holds of a tenant."""
    lines = []
    for share, fate in shares:
        lines.append(
            f"{share.name:<30} {share.records:>9,} records {share.size_bytes / 1e6:>9,.3f} MB  "
            f"{_instant(share.oldest_ms) or '-'} to {_instant(share.newest_ms) or '-'}; "
            f"{_until_found(share, fate)}"
        )
        for group, count in share.unread.items():
            lines.append(f"{'':<30} {count:>9,} of them are not read yet by {group}")
    return lines


def lines_erased(shares: Sequence[tuple[Share, Fate]]) -> list[str]:
    """Return the lines of what an erasure has done, and of what remains."""
    lines = []
    for share, fate in shares:
        lines.append(f"{share.name:<30} {share.records:>9,} records: {_done(share, fate)}")
    return lines


def _until_found(share: Share, fate: Fate) -> str:
    if share.records == 0:
        return f"{share.tombstones:,} tombstones, which hold the keys, until Kafka compacts them"
    if fate.is_kept_for_ever:
        return f"kept for ever; {_shortened(share)} ends it"
    if fate.from_ms is None:
        return "kept by key; `tapewire tenant erase` erases it"
    also = ", or until `tapewire tenant erase`" if fate.is_erasable else ""
    return f"until {_instant(fate.from_ms)}, at the latest {_instant(fate.until_ms)}{also}"


def _done(share: Share, fate: Fate) -> str:
    if fate.is_erasable:
        by = _instant(fate.until_ms)
        if by is None:
            return (
                "erased; Kafka deletes them when it compacts, without a bound: set "
                "max.compaction.lag.ms of the topic"
            )
        return f"erased; on the disk until {by} at the latest, their keys {_keys(fate)}"
    forgotten = " edges forget them now;" if has_rows(share.topic) else ""
    if fate.is_kept_for_ever:
        return f"{forgotten} kept for ever; {_shortened(share)} ends it".strip()
    until = f"until {_instant(fate.from_ms)}, at the latest {_instant(fate.until_ms)}"
    return f"{forgotten} they remain {until}; {_shortened(share)} ends it before".strip()


def _keys(fate: Fate) -> str:
    return f"until {_instant(fate.keys_until_ms)}"


def _shortened(share: Share) -> str:
    return f"`tapewire topics retention {share.topic.name} TIME`"


def _instant(at_ms: int | None) -> str | None:
    """Return a time in RFC 3339; None for none."""
    return None if at_ms is None else to_rfc3339(max(at_ms, 0) * 1_000)
