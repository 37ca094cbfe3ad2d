"""The table of routes, from the records of its topic."""

from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import NotificationRequest, NotificationRoute
from schemas.keys import encode_key
from stream_processors.notifications.route_table import RouteTable
from tests.stream_processors.notifications.conftest import note, route


def record(value: bytes | None, name: str = "desk", tenant: str | None = None) -> ConsumedRecord:
    return ConsumedRecord("t", 0, 0, 0.0, encode_key(name, tenant), value, ())


def test_routes_are_shown_by_tenant_once_the_end_was_reached() -> None:
    table = RouteTable("localhost:1", "")
    table.begin()
    for tenant in (None, "acme"):
        table.take(record(encode(route(url=f"https://{tenant}/")), tenant=tenant))
    table.take(record(encode(route("old")), "old"))
    table.take(record(None, "old"))
    assert list(table.of(None)) == []
    table.reached_end()
    assert [found.url for found in table.of("acme")] == ["https://acme/"]
    assert [found.url for found in table.of(None)] == ["https://None/"]
    assert list(table.of("other")) == []
    table.take(record(encode(route(closed=True))))
    assert table.find("desk", None) is None
    assert table.find("desk", "acme") is not None


def test_the_table_stays_while_the_topic_is_read_again() -> None:
    table = RouteTable("localhost:1", "")
    table.begin()
    table.take(record(encode(route())))
    table.reached_end()
    table.begin()
    assert table.find("desk", None) is not None
    table.reached_end()
    assert table.find("desk", None) is None


def test_what_is_no_route_is_passed_over() -> None:
    table = RouteTable("localhost:1", "")
    table.begin()
    table.take(record(b"no record"))
    table.take(record(encode(NotificationRequest(route="desk", note=note()))))
    table.take(record(encode(route("other")), "desk"))  # under another name than its own
    table.take(ConsumedRecord("t", 0, 0, 0.0, b"\xfe", encode(route()), ()))
    table.reached_end()
    assert list(table.of(None)) == []
    found: NotificationRoute | None = table.find("desk", None)
    assert found is None
