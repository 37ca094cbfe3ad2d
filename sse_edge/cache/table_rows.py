"""The rows of a table view: the last state of each entity, by tenant and id. No input or output.

The tenant of a row stands in its record's key. Earlier releases wrote keys without it, and only a
header named the tenant; both are read. Where a log has both, the row with the tenant in its key is
the newer one.

Where a topic has grown, an earlier partition may still have a record of a key; the highest of the
key's partitions has the last one.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from schemas.events import Record
from schemas.keys import has_tenant
from sse_edge.log.record import Record as LogRecord, id_of_key

S = TypeVar("S", bound=Record)

_Identity = tuple[bytes, str]
"""A tenant, empty for none, and an id."""


class Row(NamedTuple, Generic[S]):
    """The last state of an entity, and where it comes from."""

    key: bytes
    partition: int
    timestamp_ms: int
    state: S


class TableRows(Generic[S]):
    """The last state of each entity; the one that changed last is last."""

    def __init__(self, kept_ms: int | None) -> None:
        """Start without rows.

        Args:
            kept_ms: how long a row that does not change is kept; None for ever.
        """
        self._kept_ms = kept_ms
        self._newest_ms = 0
        """The latest time of a record, for records whose time is unknown."""
        self._rows: OrderedDict[_Identity, Row[S]] = OrderedDict()
        self._tenants: dict[str, dict[bytes, None]] = {}
        """The tenants of an id, in a fixed order; an id that only no tenant has is not in it."""

    def find(self, tenant: str | None, entity_id: str) -> Row[S] | None:
        """Return the row of an entity; see `TableView` for what the tenant means."""
        if tenant is not None:
            return self._rows.get((tenant.encode(), entity_id))
        found = (self._rows.get(identity) for identity in self._identities(entity_id))
        return next((row for row in found if row is not None), None)

    def of(self, tenant: str | None) -> Iterator[Row[S]]:
        """Return the rows of a tenant."""
        if tenant is None:
            return iter(self._rows.values())
        encoded = tenant.encode()
        return (row for (named, _), row in self._rows.items() if named == encoded)

    def put(self, record: LogRecord, state: S) -> None:
        """Take a record's state as the last one of its entity."""
        key = record.key or b""
        tenant = record.tenant or (getattr(state, "tenant", None) or "").encode()
        identity = (tenant, id_of_key(key))
        known = self._rows.get(identity)
        if known is not None and not _is_newer(record, known):
            return
        self._newest_ms = max(self._newest_ms, record.timestamp_ms)
        changed_ms = record.timestamp_ms or self._newest_ms
        self._rows[identity] = Row(key, record.partition.number, changed_ms, state)
        self._rows.move_to_end(identity)
        if tenant:
            self._tenants.setdefault(identity[1], {})[tenant] = None
        if self._kept_ms is not None:
            self._expire(changed_ms - self._kept_ms)

    def remove(self, record: LogRecord) -> None:
        """Remove the rows with the key of a record without a value."""
        key = record.key or b""
        for identity in self._identities(id_of_key(key)):
            row = self._rows.get(identity)
            if row is not None and row.key == key and row.partition <= record.partition.number:
                self._drop(identity)

    def _identities(self, entity_id: str) -> Iterable[_Identity]:
        """Return what an id may be of: no tenant, and each that has it."""
        return [(tenant, entity_id) for tenant in (b"", *self._tenants.get(entity_id, ()))]

    def _expire(self, before_ms: int) -> None:
        while True:
            identity, row = next(iter(self._rows.items()))
            if row.timestamp_ms >= before_ms:
                return
            self._drop(identity)

    def _drop(self, identity: _Identity) -> None:
        del self._rows[identity]
        tenant, entity_id = identity
        tenants = self._tenants.get(entity_id, {})
        tenants.pop(tenant, None)
        if not tenants:
            self._tenants.pop(entity_id, None)


def _is_newer(record: LogRecord, known: Row[S]) -> bool:
    """Return whether a record of an entity is newer than its row."""
    if record.key == known.key:
        return record.partition.number >= known.partition
    return has_tenant(record.key or b"")
