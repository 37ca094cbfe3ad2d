"""Addresses of lakes are understood, or refused with what would be right."""

import sys
from types import ModuleType

import pytest

from analytics.sinks import address
from analytics.sinks.address import Address, open_sink, parse_address
from analytics.sinks.errors import InvalidAddress, MissingLibrary


@pytest.fixture(autouse=True)
def _formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        address, "_OPENERS", {"delta": "tests_delta", "none": "a_library_that_is_not_here"}
    )


@pytest.mark.parametrize(
    ("text", "place", "is_remote"),
    [
        ("delta:/srv/lake/", "/srv/lake", False),
        ("delta:lake", "lake", False),
        ("delta:s3://bucket/some/prefix", "s3://bucket/some/prefix", True),
        ("delta:/", "/", False),
    ],
)
def test_an_address_is_a_format_and_a_place(text: str, place: str, *, is_remote: bool) -> None:
    parsed = parse_address(text)
    assert parsed == Address("delta", place)
    assert parsed.is_remote is is_remote


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/srv/lake", "begins with one of delta:, none:"),
        ("orc:/srv/lake", "not 'orc'"),
        ("delta:", "neither a folder nor a bucket"),
        ("delta:s3://", "neither a folder nor a bucket"),
        ("delta:https://example.org/lake", "neither a folder nor a bucket"),
    ],
)
def test_an_address_of_another_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=reason):
        parse_address(text)


@pytest.mark.parametrize("text", ["delta:s3://key:hidden@bucket/a", "delta:s3://b/a?key=hidden"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidAddress, match="AWS_SECRET_ACCESS_KEY") as refusal:
        parse_address(text)
    assert "hidden" not in str(refusal.value)


def test_the_format_opens_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tests_delta")
    vars(module)["open_at"] = lambda place: place
    monkeypatch.setitem(sys.modules, "tests_delta", module)
    opened: object = open_sink("delta:/srv/lake")
    assert opened == Address("delta", "/srv/lake")


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(MissingLibrary, match=r"install tapewire\[lake\]"):
        open_sink("none:/srv/lake")
