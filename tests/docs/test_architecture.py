"""The path of a live event in the documentation is the path in the code."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import FrameType

import pytest

from infra.modules import is_compiled
from tests.support.edge import alerts_log, running_edge, write_alerts

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "architecture.md"


def steps(title: str) -> list[list[str]]:
    """Return the dotted names of each numbered step of a section."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    items = re.split(r"\n\d+\. ", section)[1:]
    folders = r"(?:producers|kafka_io|schemas|stream_processors|sse_edge)"
    return [re.findall(rf"`({folders}(?:\.\w+)+)`", item) for item in items]


def resolve(name: str) -> object:
    """Import a module, or the symbol of a module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, symbol = name.rpartition(".")
        return getattr(importlib.import_module(module), symbol)


@pytest.mark.parametrize(
    "title", ["The path of a live event", "The path of a return", "The life of a connection"]
)
def test_every_step_names_modules_and_symbols_that_exist(title: str) -> None:
    found = steps(title)
    assert len(found) >= 5
    for names in found:
        assert names
        for name in names:
            assert resolve(name) is not None


@pytest.mark.skipif(is_compiled(), reason="calls of compiled functions are not seen")
async def test_a_live_event_takes_the_documented_path() -> None:
    """Record which modules run between the log and a client, and compare their order."""
    documented = [names[0].rsplit(".", 1)[0] for names in steps("The path of a live event")]
    inside = documented[documented.index("sse_edge.cache.tail") :]
    log = alerts_log()
    async with running_edge(log) as edge:
        live = edge.connect()
        await live.until(2)
        write_alerts(log, 1)
        await live.until(1, event="risk_alert")  # from now on nothing is prepared any more
        first_call: dict[str, int] = {}

        def called(frame: FrameType, event: str, _: object) -> None:
            if event == "call":
                module = str(frame.f_globals.get("__name__"))
                first_call.setdefault(f"{module}:{frame.f_code.co_name}", len(first_call))

        sys.setprofile(called)
        try:
            write_alerts(log, 2)
            await live.until(2, event="risk_alert")
        finally:
            sys.setprofile(None)
    path = [
        "sse_edge.cache.window:append",
        "sse_edge.cache.tail:_notify",
        "sse_edge.delivery.broadcast:notify",
        "sse_edge.delivery.feed:advance",
        "sse_edge.streams.render:render",
        "tests.support.edge:write",
    ]
    assert sorted(path, key=lambda step: first_call[step]) == path
    assert {step.split(":")[0] for step in path[:-1]} <= set(inside)


def test_the_ends_of_the_path_are_connected() -> None:
    """Check the steps that need Kafka or a socket: each names the class of the next."""
    for module, following in (
        ("producers.broadcaster", "Publisher"),
        ("kafka_io.publisher", "encode("),
        ("sse_edge.app", "KafkaLog("),
        ("sse_edge.app", "Tail("),
        ("sse_edge.delivery.broadcast", "transport.write("),
        ("sse_edge.http.protocol", "SocketTransport"),
    ):
        source = inspect.getsource(importlib.import_module(module))
        assert following in source, f"{module} does not name {following}"
