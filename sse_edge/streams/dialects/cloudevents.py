"""CloudEvents 1.0 in their JSON format: a variant of every dialect, for generic consumers.

An event has the name and the data of its own dialect. Its context attributes are those of the
record in Kafka as far as JSON clients need them: the id by which a repeat is recognized, and the
entity as subject. A cursor is the id of the block, as in every dialect, and no attribute. This
module is pure.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2s
from urllib.parse import quote

from sse_edge.frame import FRAME_BYTES_MAX, Text
from sse_edge.log.record import Record, id_of_key
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered

NAME = "cloudevents"
"""How the names of the variants begin."""
CONTEXT_BYTES_MAX = 12 << 10
"""More than the attributes of any record take: three texts, each character of up to 12 bytes."""
_TEXT_CHARS_MAX = 256
_EDGE = "/tapewire/edge"
"""The source of events about a stream itself, and of lists."""


def variant_of(channel: str, topic: str, dialect: Dialect) -> Dialect:
    """Return a dialect as CloudEvents.

    Args:
        channel: the channel's name, which becomes part of each event's type.
        topic: the name of the channel's topic, without a prefix.
        dialect: the channel's own dialect, which names the events.
    """

    def wrap(rendered: Rendered, timestamp: str) -> EventBlock:
        data = rendered.data
        attributes = _attributes(f"{channel}.{rendered.event}", timestamp)
        attributes["datacontenttype"] = _content_type(data)
        return EventBlock(dialect.wrap(rendered, timestamp).event, attributes | {"data": data})

    def notice(
        client_info: ClientInfo, event: str, data: Mapping[str, object], timestamp: str
    ) -> EventBlock:
        name = dialect.notice(client_info, event, data, timestamp).event
        return EventBlock(name, _about_stream(client_info, event, data, timestamp))

    def opening(client_info: ClientInfo, timestamp: str) -> EventBlock:
        assert dialect.opening is not None
        shown = dialect.opening(client_info, timestamp)
        name = shown.event or "opening"
        return EventBlock(shown.event, _about_stream(client_info, name, shown.data, timestamp))

    def context(record: Record, part: str) -> bytes:
        return _context(f"/tapewire/{topic}", record, part)

    return replace(
        dialect,
        name=f"{NAME}_{dialect.name}",
        wrap=wrap,
        notice=notice,
        opening=None if dialect.opening is None else opening,
        heartbeat=None,
        context=context,
        frame_bytes_max=FRAME_BYTES_MAX - CONTEXT_BYTES_MAX,
    )


def event_of_edge(
    kind: str, data: object, timestamp: str, client_id: str = ""
) -> Mapping[str, object]:
    """Return an event that no record of a channel is; its id derives from its content.

    Args:
        kind: the part of its type after `tapewire.`.
        data: its data.
        timestamp: its time.
        client_id: the client that it is for.
    """
    content = json.dumps([client_id, kind, data, timestamp], default=str)
    return _attributes(kind, timestamp) | {
        "id": blake2s(content.encode(), digest_size=16).hexdigest(),
        "source": _EDGE,
        "datacontenttype": _content_type(data),
        "data": data,
    }


def _about_stream(
    client_info: ClientInfo, event: str, data: object, timestamp: str
) -> Mapping[str, object]:
    return event_of_edge(f"stream.{event}", data, timestamp, client_info.client_id)


def _attributes(kind: str, timestamp: str) -> dict[str, object]:
    return {"specversion": "1.0", "type": f"tapewire.{kind}", "time": timestamp}


def _content_type(data: object) -> str:
    return "text/plain" if isinstance(data, Text) else "application/json"


def _context(source: str, record: Record, part: str) -> bytes:
    """Return the attributes that come from a record; the parts of an event have ids of their own.

    Ids of tenants may be the same, and so the tenant is part of the source.
    """
    tenant = record.tenant.decode(errors="replace")[:_TEXT_CHARS_MAX]
    event_id = (record.event_id or b"").decode(errors="replace")
    if not 1 <= len(event_id) <= _TEXT_CHARS_MAX:
        event_id = f"{record.partition.number}-{record.offset}"
    attributes = {
        "id": f"{event_id}-{part}" if part else event_id,
        "source": f"{source}?tenant={quote(tenant, safe='')}" if tenant else source,
    }
    subject = "" if record.key is None else id_of_key(record.key)
    if 1 <= len(subject) <= _TEXT_CHARS_MAX:
        attributes["subject"] = subject
    return json.dumps(attributes, separators=(",", ":")).encode()[1:-1]
