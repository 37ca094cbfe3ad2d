"""A record's headers: CloudEvents 1.0, in Kafka's binary mode.

By them, a reader filters by type and recognizes repeats without decoding the value. An id derives
from the event's content, so that the same event, written again after a crash, has the same id.
"""

from collections.abc import Iterable
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid5

from schemas.bounds import NAME_CHARS_MAX
from schemas.events import Event
from schemas.instants import to_rfc3339
from schemas.keys import decode_key
from schemas.topics import key_of, type_name

Headers = list[tuple[str, bytes]]

ID = "ce_id"
TYPE = "ce_type"
SOURCE = "ce_source"
RECORDED = "ce_recordedtime"
TENANT = "tenant"
REDRIVE = "redrive"
"""The dead letter whose record was written again, as `DeadLetter.letter_id` names it."""
LETTER_TIME = "letter_time"
"""Which of the letters of a name an operator's action settles: `DeadLetter.event_time_us`."""
ORIGIN = "origin"
"""From where a change was requested: a client's address, or USER@HOST of a command."""

_SHOWN_BYTES = 80


def headers_of(
    event: Event,
    value: bytes,
    source: str,
    *,
    recorded_us: int,
    tenant: str | None = None,
    traceparent: str | None = None,
    origin: str | None = None,
) -> Headers:
    """Return the headers of an event.

    Args:
        event: the event.
        value: its encoding, from which the id derives if the event names none.
        source: the writer, such as `/producers/demo`.
        recorded_us: the time of writing; the event's own time may be long before.
        tenant: the event's tenant, if the system has tenants.
        traceparent: the writer's W3C trace context.
        origin: from where the event was requested; None if nobody needs to know.
    """
    key = key_of(event, tenant)
    described = {
        "ce_specversion": "1.0",
        ID: getattr(event, "event_id", None) or _id_of_content(event, value),
        TYPE: type_name(type(event)),
        SOURCE: source,
        "ce_time": to_rfc3339(event.event_time_us),
        RECORDED: to_rfc3339(recorded_us),
        "content-type": "application/avro",
    }
    if key is not None:
        described["ce_subject"] = decode_key(key).entity_id
    if tenant is not None:
        described[TENANT] = tenant
    if traceparent is not None:
        described["traceparent"] = traceparent
    if origin is not None:
        described[ORIGIN] = origin
    return [(name, text.encode()) for name, text in described.items()]


def tenant_in(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return the tenant of a record by its headers; an empty one is none."""
    for name, value in headers:
        if name == TENANT and value:
            return value.decode(errors="backslashreplace")
    return None


def fault_of_tenant(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return why no tenant has the records with these headers; None if one may, or none is named.

    Bytes that are no text could be taken for those of another tenant, and so could the second of
    two names.
    """
    found = [value for name, value in headers if name == TENANT and value]
    if not found:
        return None
    if len(found) > 1:
        return f"it names {len(found)} tenants"
    try:
        tenant = found[0].decode()
    except UnicodeDecodeError:
        return f"the name of its tenant is not UTF-8: {found[0][:_SHOWN_BYTES]!r}"
    if len(tenant) > NAME_CHARS_MAX:
        return f"the name of its tenant has more than {NAME_CHARS_MAX} characters"
    return None


def _id_of_content(event: Event, value: bytes) -> str:
    return str(uuid5(NAMESPACE_URL, f"{type_name(type(event))}:{sha256(value).hexdigest()}"))
