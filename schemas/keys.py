"""The keys of records: the UTF-8 bytes of an id, after its tenant's where there is one.

    pf-1                  the id `pf-1`, of no tenant
    acme <ff> pf-1        the id `pf-1` of the tenant `acme`
    <fe> t/3              no id: the partition 3 of the topic `t`
    <fe> scenario/s       no id: the scenario `s`, in a processor's state

The byte FF stands between tenant and id. UTF-8 has no such byte, so no id, whatever its characters,
has the key of a pair, and no two pairs have the same key. Keys of one tenant begin with the same
bytes. Kafka's tools show the byte as U+FFFD, the replacement character, or in hexadecimal.

UTF-8 has no byte FE either. It begins the keys of records that are about no id.
"""

from typing import NamedTuple

from schemas.errors import InvalidKey

_SEPARATOR = b"\xff"
_OF_PARTITIONS = b"\xfe"


class EntityKey(NamedTuple):
    """The parts of a key."""

    entity_id: str
    tenant: str | None
    """None for an id without a tenant; the empty text is a tenant."""


def encode_key(entity_id: str, tenant: str | None = None) -> bytes:
    """Return the key of an entity's records."""
    encoded = entity_id.encode()
    return encoded if tenant is None else tenant.encode() + _SEPARATOR + encoded


def readable_keys(entity_id: str, tenant: str | None) -> frozenset[bytes]:
    """Return the keys that records of an entity may have.

    Earlier releases wrote the keys of ids without their tenants, which only a header named.

    Args:
        entity_id: the id.
        tenant: its tenant; None or an empty text for none.
    """
    own = {encode_key(entity_id, tenant)} if tenant else set()
    return frozenset({encode_key(entity_id), *own})


def has_tenant(key: bytes) -> bool:
    """Return whether a key names a tenant."""
    return _SEPARATOR in key


def partition_key(topic: str, partition: int) -> bytes:
    """Return the key of records about a partition of a topic, which no id has."""
    return _OF_PARTITIONS + f"{topic}/{partition}".encode()


def scenario_key(name: str, tenant: str | None = None) -> bytes:
    """Return the key of a scenario among the states of portfolios, which no portfolio has."""
    return _OF_PARTITIONS + encode_key(f"scenario/{name}", tenant)


def decode_key(key: bytes) -> EntityKey:
    """Return the id and the tenant of a key.

    Raises:
        InvalidKey: no id and tenant have such a key.
    """
    tenant, separator, entity_id = key.rpartition(_SEPARATOR)
    try:
        return EntityKey(entity_id.decode(), tenant.decode() if separator else None)
    except UnicodeDecodeError as error:
        raise InvalidKey(f"{key!r} is not the UTF-8 text of an id, or of two parts") from error


def tenant_of_key(key: bytes | None) -> str | None:
    """Return the tenant that a key names, also one that is of no id; None for none."""
    try:
        return decode_key((key or b"").removeprefix(_OF_PARTITIONS)).tenant
    except InvalidKey:
        return None


def fault_of_key(key: bytes | None, tenant: str | None) -> str | None:
    """Return why a key is not that of a tenant's record; None if it may be.

    Args:
        key: the key; the id in it does not matter.
        tenant: the tenant by the record's headers.
    """
    try:
        named = decode_key(key or b"").tenant
    except InvalidKey:
        return None  # it names no tenant
    if key is None or named == tenant:
        return None
    return f"its key is {_of(named)}, and its header {_of(tenant)}"


def _of(tenant: str | None) -> str:
    return "of no tenant" if tenant is None else f"of the tenant {tenant!r}"
