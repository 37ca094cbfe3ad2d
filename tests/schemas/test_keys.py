"""The keys of ids with and without a tenant."""

import pytest
from hypothesis import given, strategies as st

from schemas.errors import InvalidKey
from schemas.events import TrainingProgress
from schemas.keys import (
    EntityKey,
    decode_key,
    encode_key,
    fault_of_key,
    partition_key,
    scenario_key,
    tenant_of_key,
)
from schemas.topics import key_of

texts = st.text(st.characters(exclude_categories=["Cs"]))
"""Every text that UTF-8 can encode."""
tenants = st.none() | texts
pairs = st.builds(EntityKey, texts, tenants)


@given(texts)
def test_the_key_of_an_id_without_a_tenant_is_its_text(entity_id: str) -> None:
    assert encode_key(entity_id) == entity_id.encode()


@given(pairs)
def test_a_key_tells_its_id_and_its_tenant(pair: EntityKey) -> None:
    assert decode_key(encode_key(*pair)) == pair


@given(pairs, pairs)
def test_two_pairs_never_share_a_key(pair: EntityKey, other: EntityKey) -> None:
    assert (encode_key(*pair) == encode_key(*other)) is (pair == other)


@given(texts, texts, texts)
def test_no_id_without_a_tenant_has_the_key_of_a_pair(
    entity_id: str, other_id: str, tenant: str
) -> None:
    assert encode_key(entity_id) != encode_key(other_id, tenant)
    # Whatever a person takes for the separator is a part of the id.
    shown = encode_key(other_id, tenant).decode(errors="replace")
    assert encode_key(shown) != encode_key(other_id, tenant)
    assert encode_key(f"{tenant}\u00ff{other_id}") != encode_key(other_id, tenant)


@given(pairs, pairs)
def test_the_keys_of_one_tenant_and_of_no_other_begin_alike(
    pair: EntityKey, other: EntityKey
) -> None:
    if pair.tenant is not None:
        beginning = encode_key("", pair.tenant)
        assert encode_key(*other).startswith(beginning) is (other.tenant == pair.tenant)


@given(texts, st.integers(0, 1_000), pairs)
def test_the_key_of_a_partition_is_of_no_id(topic: str, partition: int, pair: EntityKey) -> None:
    key = partition_key(topic, partition)
    assert key != encode_key(*pair)
    with pytest.raises(InvalidKey):
        decode_key(key)


@given(st.binary(max_size=40))
def test_any_bytes_are_one_pairs_key_or_are_refused(key: bytes) -> None:
    try:
        pair = decode_key(key)
    except InvalidKey:
        return
    assert encode_key(*pair) == key


@pytest.mark.parametrize("key", [b"\xc3", b"a\xffb\xffc", b"\xff\xff", b"\xc3\xffid", b"t\xff\xc3"])
def test_bytes_that_no_pair_has_are_refused_by_name(key: bytes) -> None:
    with pytest.raises(InvalidKey, match="is not the UTF-8 text of an id"):
        decode_key(key)


@pytest.mark.parametrize(
    ("entity_id", "tenant", "key"),
    [
        ("pf-1", None, b"pf-1"),
        ("pf-1", "acme", b"acme\xffpf-1"),
        ("fund/desk", "acme", b"acme\xfffund/desk"),
        ("pf-1", "", b"\xffpf-1"),
        ("", None, b""),
        ("", "acme", b"acme\xff"),
        ("Zürich", "Ünal", b"\xc3\x9cnal\xffZ\xc3\xbcrich"),
    ],
)
def test_these_keys_are_in_logs_and_never_change(
    entity_id: str, tenant: str | None, key: bytes
) -> None:
    assert encode_key(entity_id, tenant) == key


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        (encode_key("pf-1"), None),
        (encode_key("pf-1", "acme"), "acme"),
        (scenario_key("crash"), None),
        (scenario_key("crash", "acme"), "acme"),
        (partition_key("t", 1), None),
        (b"\xfd\xfe", None),
        (None, None),
    ],
)
def test_a_key_names_its_tenant_also_where_it_is_of_no_id(
    key: bytes | None, tenant: str | None
) -> None:
    assert tenant_of_key(key) == tenant


def test_an_events_key_is_its_ids() -> None:
    event = TrainingProgress(
        task_id="t-1", progress=1.0, status="running", message="", metrics={}, event_time_us=0
    )
    assert key_of(event) == encode_key("t-1")


@given(pair=pairs, tenant=tenants)
def test_a_key_and_a_header_agree_where_they_name_the_same_tenant(
    pair: EntityKey, tenant: str | None
) -> None:
    assert (fault_of_key(encode_key(*pair), tenant) is None) is (pair.tenant == tenant)
    assert fault_of_key(None, tenant) is None
    assert fault_of_key(partition_key("t", 1), tenant) is None


@given(st.text(), st.text())
def test_the_key_of_a_tenants_event_names_the_tenant(task_id: str, tenant: str) -> None:
    event = TrainingProgress(
        task_id=task_id, progress=0.0, status="", message="", metrics={}, event_time_us=0
    )
    assert key_of(event, tenant) == encode_key(task_id, tenant)
