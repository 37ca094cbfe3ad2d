"""Records as JSON: for people who read them, and for programs behind a pipe. Pure.

A key or a packed field that is UTF-8 text is text; other bytes are an object with their hexadecimal
digits. Numbers that JSON has not are null.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from kafka_io.reader import ConsumedRecord
from schemas.codec import version_of
from schemas.errors import Refused
from schemas.gate import admit
from schemas.instants import to_rfc3339


def json_of(value: Any) -> Any:
    """Return a value of a record, or a record, as JSON has it."""
    found: Any
    match value:
        case None | bool() | int() | str():
            found = value
        case float():
            found = value if isfinite(value) else None
        case bytes():
            found = text_of(value)
        case Mapping():
            found = {str(name): json_of(part) for name, part in value.items()}
        case _ if is_dataclass(value):
            found = {field.name: json_of(getattr(value, field.name)) for field in fields(value)}
        case _ if hasattr(value, "_asdict"):
            found = {name: json_of(part) for name, part in value._asdict().items()}
        case _:
            found = [json_of(part) for part in value]
    return found


def text_of(value: bytes | None) -> Any:
    """Return bytes as text, or else as an object with their hexadecimal digits."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}
    return text if text.isprintable() else {"hex": value.hex()}


def describe(record: ConsumedRecord) -> dict[str, Any]:
    """Return a record of the log, decoded if it can be; else `error` says why it cannot."""
    described: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "at": to_rfc3339(round(record.timestamp * 1_000) * 1_000) if record.timestamp else None,
        "key": text_of(record.key),
        "headers": {name: text_of(value) for name, value in record.headers},
    }
    if record.value is None:
        return described | {"record": None, "schema_version": None, "value": None}
    written = version_of(record.value)
    try:
        decoded = admit(record.value)
    except Refused as error:
        return described | {"record": None, "schema_version": None, "error": str(error)}
    return described | {
        "record": type(decoded).__name__,
        "schema_version": None if written is None else written.version,
        "value": json_of(decoded),
    }


def matches(described: Mapping[str, Any], path: str, expected: str) -> bool:
    """Return whether a field of a described record has a value; of a list, any of its items.

    Args:
        described: see `describe`.
        path: the field of the value, such as `returns.portfolio_id`; or one beside the value, such
            as `headers.ce_id` or `partition`.
        expected: the value as text; JSON's null, true and false are written so.
    """
    value = described.get("value")
    inside = isinstance(value, Mapping) and path.partition(".")[0] in value
    return any(_shown(found) == expected for found in _at(value if inside else described, path))


def _at(value: Any, path: str) -> list[Any]:
    if isinstance(value, list):
        return [found for item in value for found in _at(item, path)]
    if not path:
        return [value]
    name, _, rest = path.partition(".")
    if not isinstance(value, Mapping) or name not in value:
        return []
    return _at(value[name], rest)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
