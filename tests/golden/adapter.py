"""The one place where the golden files of events meet the code.

When modules move or symbols are renamed, this file changes. The JSON files never do: they are what
clients have seen, and a client author may read them as examples.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from schemas import events
from schemas.codec import encode
from schemas.events import JobState
from sse_edge.frame import block, checkpoint, with_id
from sse_edge.http.sse_response import event_block
from sse_edge.routes.job_lists import HISTORY, JOBS, _events
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo, Dialect
from sse_edge.streams.dialects.agent import AGENT
from sse_edge.streams.dialects.backtest import BACKTEST
from sse_edge.streams.dialects.chat import CHAT, RESPONSE
from sse_edge.streams.dialects.mystocks import MANY, MYSTOCKS, many
from sse_edge.streams.dialects.training import TRAINING_TASK
from sse_edge.streams.render import render_value

GOLDEN = Path(__file__).parent
"""The folder of the golden files."""

DIALECTS: Mapping[str, Dialect] = {
    "mystocks": MYSTOCKS,
    MANY: many("alerts", "entity_id"),
    "training_task": TRAINING_TASK,
    "backtest": BACKTEST,
    "agent": AGENT,
    "chat": CHAT,
    "response": RESPONSE,
}
"""Every dialect, by the name of its folder."""

_LISTS = {"jobs": JOBS, "backtests": HISTORY}


def golden_files(folder: str) -> list[Path]:
    """Return the golden files of a folder and its subfolders, in a fixed order."""
    return sorted((GOLDEN / folder).rglob("*.json"))


def load(path: Path) -> Any:
    """Return the content of a golden file."""
    return json.loads(path.read_text(encoding="ascii"))


def name_of(path: Path) -> str:
    """Return a golden file's path inside the folder of all golden files."""
    return path.relative_to(GOLDEN).as_posix()


def declared_events() -> set[tuple[str, str, str]]:
    """Return the dialect, channel and name of every event that a channel declares."""
    folders = {id(dialect): folder for folder, dialect in DIALECTS.items()}
    return {
        (folders.get(id(channel.dialect), channel.dialect.name), channel.name, event)
        for channel in (*CHANNELS.values(), *CHANNELS.in_many.values())
        for event in channel.events
    }


def render_event(golden: Mapping[str, Any]) -> bytes:
    """Render an example of an event: its record, its time in the log and its id."""
    is_many = golden["dialect"] == "mystocks_many"
    channel = (CHANNELS.in_many if is_many else CHANNELS)[golden["channel"]]
    assert channel.dialect.name == DIALECTS[golden["dialect"]].name
    value = encode(record_of(golden["record"]))
    frame = render_value(channel, value, golden["timestamp_ms"])
    assert frame is not None
    assert frame.event == golden["event"]
    assert frame.ends == golden["ends"]
    return with_id(frame.body, golden["id"].encode())


def render_list_events(golden: Mapping[str, Any]) -> list[bytes]:
    """Render the events that lead a client's list of jobs from one state to another."""
    before, after = (
        None if jobs is None else [_job_state(job) for job in jobs]
        for jobs in (golden["before"], golden["after"])
    )
    assert after is not None
    events = _events(_LISTS[golden["list"]], before, after)
    return [
        event_block({"event": event, "data": data, "id": golden["id"]}) for event, data in events
    ]


def render_opening(golden: Mapping[str, Any]) -> bytes:
    """Render the first bytes of a stream."""
    dialect = DIALECTS[golden["dialect"]]
    return dialect.open(_client(golden), golden["timestamp"], golden["retry_ms"])


def render_heartbeat(golden: Mapping[str, Any]) -> bytes:
    """Render what keeps a silent connection alive."""
    return DIALECTS[golden["dialect"]].beat(_client(golden), golden["timestamp"])


def render_notice(golden: Mapping[str, Any]) -> bytes:
    """Render a gap, an error, a challenge or a count of merged events."""
    notice = DIALECTS[golden["dialect"]].notice
    event, data, timestamp = golden["event"], golden["data"], golden["timestamp"]
    return block(*notice(_client(golden), event, data, timestamp), retry_ms=golden["retry_ms"])


def render_checkpoint(golden: Mapping[str, Any]) -> bytes:
    """Render a block that moves the client's cursor without an event."""
    cursor, named, retry_ms = golden["id"].encode(), golden["named"], golden["retry_ms"]
    return checkpoint(cursor, named=named, retry_ms=retry_ms)


def render_response(golden: Mapping[str, Any]) -> bytes:
    """Render a value that an application's own iterator yields to `SSEResponse`."""
    return event_block(golden["yielded"])


def record_of(described: Mapping[str, Any]) -> Any:
    """Return the record that a class name and fields describe; absent fields have defaults."""
    return _build(getattr(events, described["class"]), described["fields"])


def _client(golden: Mapping[str, Any]) -> ClientInfo:
    return ClientInfo(**golden["client"])


def _job_state(fields: Mapping[str, Any]) -> JobState:
    job = _build(JobState, fields)
    assert isinstance(job, JobState)
    return job


def _build(kind: Any, fields: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in fields.items()})


def _value(hint: Any, value: Any) -> Any:
    """Build the dataclasses and named tuples inside a field."""
    inside = get_args(hint)
    if get_origin(hint) is Sequence and _is_record(inside[0]):
        return [_build(inside[0], item) for item in value]
    kinds = inside if get_origin(hint) in (UnionType, Union) else (hint,)
    records = [kind for kind in kinds if _is_record(kind)]
    return _build(records[0], value) if records and value is not None else value


def _is_record(kind: Any) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "_fields")
