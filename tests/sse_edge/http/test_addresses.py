import pytest

from sse_edge.http.addresses import address_of, counted_as, host_of


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("a proxy's own name for it", "a proxy's own name for it"),
    ],
)
def test_a_client_is_counted_by_its_address_or_by_its_network(host: str, counted: str) -> None:
    assert counted_as(host) == counted
    assert address_of({"client": (host, 1)}) == counted
    assert host_of({"client": (host, 1)}) == host


def test_a_client_without_an_address_is_counted_too() -> None:
    assert address_of({"client": None}) == "unknown"
    assert host_of({"client": None}) is None
    assert len(counted_as("x" * 10_000)) == 64
