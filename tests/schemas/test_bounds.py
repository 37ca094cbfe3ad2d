"""Bounds: JSON that may be read, and JSON that may not."""

import pytest

from schemas.bounds import JSON_DEPTH_MAX, parse_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("[1, 2.5]", [1, 2.5]),
        ('{"a": {"b": [true]}}', {"a": {"b": [True]}}),
        ("[" * JSON_DEPTH_MAX + "]" * JSON_DEPTH_MAX, None),
    ],
)
def test_json_is_parsed(text: str, value: object) -> None:
    assert parse_json(text) == value or value is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "EOF"),
        ("[1,", "EOF"),
        ("nothing", "expected"),
        ('"\\ud800"', "surrogate|hex escape"),
        ("[" * (JSON_DEPTH_MAX + 1) + "]" * (JSON_DEPTH_MAX + 1), "100 levels deep"),
        ("[" * 100_000, "recursion limit"),
    ],
)
def test_damaged_or_deep_json_is_refused(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_json(text)
