from schemas.events import StoryState
from schemas.keys import encode_key
from sse_edge.cache.table_rows import TableRows
from sse_edge.log.record import Partition, Record


def state(number: int, tenant: str | None = None) -> StoryState:
    return StoryState(
        subject="a",
        status="running",
        partition=0,
        first_offset=0,
        last_offset=number,
        ended=False,
        tenant=tenant,
    )


def record(key: bytes, *, tenant: bytes = b"", partition: int = 0, at_ms: int = 1) -> Record:
    return Record(Partition("t", partition), 0, at_ms, key, b"", None, tenant)


OLD, NEW = encode_key("a"), encode_key("a", "acme")


def number_of(rows: TableRows[StoryState], tenant: str | None) -> int | None:
    found = rows.find(tenant, "a")
    return None if found is None else found.state.last_offset


def test_one_id_of_several_tenants_has_several_rows() -> None:
    rows: TableRows[StoryState] = TableRows(None)
    rows.put(record(OLD), state(1))
    rows.put(record(NEW, tenant=b"acme"), state(2))
    rows.put(record(OLD, tenant=b"other"), state(3))
    assert [number_of(rows, tenant) for tenant in ("", "acme", "other", "none")] == [1, 2, 3, None]
    assert number_of(rows, None) == 1
    assert [row.state.last_offset for row in rows.of("other")] == [3]
    assert [row.state.last_offset for row in rows.of(None)] == [1, 2, 3]


def test_an_id_that_only_a_tenant_has_is_found_by_who_reads_all_tenants() -> None:
    rows: TableRows[StoryState] = TableRows(None)
    rows.put(record(NEW, tenant=b"acme"), state(2))
    assert (number_of(rows, None), number_of(rows, "")) == (2, None)


def test_a_key_with_its_tenant_is_newer_than_one_without_whichever_is_read_first() -> None:
    old, new = record(OLD, tenant=b"acme", partition=5), record(NEW, tenant=b"acme", partition=1)
    for order in ((old, new), (new, old)):
        rows: TableRows[StoryState] = TableRows(None)
        for found in order:
            rows.put(found, state(1 if found is old else 2))
        assert number_of(rows, "acme") == 2
        # Who rewrites a log deletes the old key, and not what has the new one.
        rows.remove(record(OLD, partition=5))
        assert number_of(rows, "acme") == 2
        rows.remove(record(NEW, partition=1))
        assert number_of(rows, "acme") is None
        assert number_of(rows, None) is None


def test_a_tombstone_without_a_tenant_removes_what_has_its_key() -> None:
    rows: TableRows[StoryState] = TableRows(None)
    rows.put(record(OLD, tenant=b"acme"), state(1))
    rows.put(record(OLD), state(2))
    rows.put(record(encode_key("a", "other"), tenant=b"other"), state(3))
    rows.remove(record(OLD))
    assert [number_of(rows, tenant) for tenant in ("acme", "", "other")] == [None, None, 3]


def test_the_highest_partition_of_a_key_has_its_last_state() -> None:
    rows: TableRows[StoryState] = TableRows(None)
    rows.put(record(NEW, tenant=b"acme", partition=4), state(1))
    rows.put(record(NEW, tenant=b"acme", partition=2), state(2))
    rows.remove(record(NEW, tenant=b"acme", partition=2))
    assert number_of(rows, "acme") == 1


def test_a_state_names_its_tenant_where_its_record_does_not() -> None:
    rows: TableRows[StoryState] = TableRows(None)
    rows.put(record(OLD), state(1, "acme"))
    assert (number_of(rows, "acme"), number_of(rows, "")) == (1, None)


def test_rows_that_do_not_change_expire() -> None:
    rows: TableRows[StoryState] = TableRows(10)
    rows.put(record(NEW, tenant=b"acme", at_ms=1), state(1))
    rows.put(record(OLD, at_ms=20), state(2))
    assert (number_of(rows, "acme"), number_of(rows, None)) == (None, 2)
