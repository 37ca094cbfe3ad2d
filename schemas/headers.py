"""A record's headers: CloudEvents 1.0, in Kafka's binary mode.

They let a reader filter by type and recognize repeats without decoding the value. An id derives
from what the event is about, so that the same fact, written again after a crash, has the same id.
"""

from collections.abc import Iterable
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid5

from schemas.events import Event
from schemas.instants import to_rfc3339
from schemas.topics import key_of, type_name

Headers = list[tuple[str, bytes]]

ID = "ce_id"
TYPE = "ce_type"
RECORDED = "ce_recordedtime"
TENANT = "tenant"


def headers_of(
    event: Event,
    value: bytes,
    source: str,
    *,
    recorded_us: int,
    tenant: str | None = None,
    traceparent: str | None = None,
) -> Headers:
    """Describe an event.

    Args:
        event: what is written.
        value: its encoding; where an event names no id of its own, its content does.
        source: who wrote it, such as `/producers/demo`.
        recorded_us: when that was: what the event is about may have happened long before.
        tenant: whose it is, where several share a cluster.
        traceparent: the W3C trace context that it was written in.
    """
    key = key_of(event)
    described = {
        "ce_specversion": "1.0",
        ID: getattr(event, "event_id", None) or _id_of_content(event, value),
        TYPE: type_name(type(event)),
        "ce_source": source,
        "ce_time": to_rfc3339(event.event_time_us),
        RECORDED: to_rfc3339(recorded_us),
        "content-type": "application/avro",
    }
    if key is not None:
        described["ce_subject"] = key.decode()
    if tenant is not None:
        described[TENANT] = tenant
    if traceparent is not None:
        described["traceparent"] = traceparent
    return [(name, text.encode()) for name, text in described.items()]


def tenant_in(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Whose a record is, as its headers have it; who is called by no text is nobody's namesake."""
    for name, value in headers:
        if name == TENANT and value is not None:
            return value.decode(errors="backslashreplace")
    return None


def _id_of_content(event: Event, value: bytes) -> str:
    return str(uuid5(NAMESPACE_URL, f"{type_name(type(event))}:{sha256(value).hexdigest()}"))
