"""`SSEResponse`: what an iterator yields reaches the client, and everything is put away after."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from starlette.background import BackgroundTask

from sse_edge.http.sse_response import SENT, SSEResponse, event_block
from tests.support.sse import Block, Reader


class Browser:
    """Calls a response as a server would, and leaves when it has seen enough."""

    def __init__(self, leaves_after: int | None = None, accepts: bytes = b"identity") -> None:
        self.reader, self.blocks = Reader(), list[Block]()
        self.unzip = zlib.decompressobj(wbits=31)
        self._accepts = accepts
        self.headers: dict[bytes, bytes] = {}
        self.ended = False
        self._leaves_after = leaves_after
        self._gone = asyncio.Event()
        self._pings = 0
        self.pinged = asyncio.Event()
        """Three times."""

    async def get(self, response: SSEResponse) -> None:
        scope = {"type": "http", "headers": [(b"accept-encoding", self._accepts)]}
        await response(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.headers = dict(message["headers"])
            return
        is_zipped = self.headers.get(b"content-encoding") == b"gzip"
        read = self.unzip.decompress(message["body"]) if is_zipped else message["body"]
        self.blocks += self.reader.feed(read)
        assert self.reader.is_between_blocks or read.startswith(b":")
        self._pings += message["body"] == b": ping\n"
        if self._pings == 3:
            self.pinged.set()
        self.ended = not message.get("more_body")
        if self._leaves_after is not None and len(self.blocks) >= self._leaves_after:
            self._gone.set()


async def test_texts_values_and_whole_events() -> None:
    async def story() -> AsyncIterator[Any]:
        yield "two\nlines"
        yield {"temperature": 20.5, "data_points": 3}
        yield {"data": "Welcome", "event": "welcome", "id": "welcome-1", "retry": 3000}
        yield {"data": {"status": "done"}, "event": "complete"}

    browser = Browser()
    await browser.get(SSEResponse(story()))
    assert browser.ended
    assert browser.headers[b"content-type"] == b"text/event-stream"
    assert b"content-length" not in browser.headers
    first, second, third, fourth = browser.blocks
    assert (first.event, first.data) == (None, "two\nlines")
    assert second.json == {"temperature": 20.5, "data_points": 3}
    assert (third.event, third.data, third.id, third.retry_ms) == (
        *("welcome", "Welcome", "welcome-1", 3000),
    )
    assert (fourth.event, fourth.json, fourth.id) == ("complete", {"status": "done"}, None)


async def test_an_open_response_is_counted_once() -> None:
    counts: list[int] = []

    async def story() -> AsyncIterator[Any]:
        counts.append(SENT.of(None).open)
        yield 1

    before = SENT.of(None).open
    await Browser().get(SSEResponse(story()))
    await Browser().get(SSEResponse(story(), is_session=True))
    assert counts == [before + 1, before]
    assert SENT.of(None).open == before


async def test_a_client_with_gzip_gets_each_event_at_once_and_a_whole_file() -> None:
    seen: list[int] = []

    async def count() -> AsyncIterator[Any]:
        for number in range(5):
            seen.append(len(browser.blocks))
            yield {"number": number, "text": "the same " * 50}

    browser = Browser(accepts=b"br, gzip;q=0.8")
    await browser.get(SSEResponse(count()))
    assert browser.headers[b"content-encoding"] == b"gzip"
    assert browser.headers[b"vary"] == b"Accept-Encoding"
    assert [block.json["number"] for block in browser.blocks] == seen == list(range(5))
    assert browser.unzip.eof  # with a CRC that is right


async def test_silence_is_broken_by_pings_that_clients_ignore() -> None:
    browser = Browser()

    async def slow() -> AsyncIterator[Any]:
        yield 1
        await browser.pinged.wait()
        yield 2

    await browser.get(SSEResponse(slow(), ping_interval=0.01))
    assert [block.json for block in browser.blocks] == [1, 2]
    assert browser.reader.comments >= 3


@pytest.mark.parametrize("leaves_after", [2, None])
async def test_the_iterator_is_closed_and_the_background_runs_once(
    leaves_after: int | None,
) -> None:
    done: list[str] = []

    async def story() -> AsyncGenerator[Any]:
        try:
            for number in range(5):
                yield number
                await asyncio.sleep(0)
        finally:
            done.append("closed")

    response = SSEResponse(story(), background=BackgroundTask(done.append, "background"))
    browser = Browser(leaves_after)
    await browser.get(response)
    assert done == ["closed", "background"]
    assert len(browser.blocks) == (leaves_after or 5)


async def test_an_error_may_pass_and_a_failure_ends_the_stream() -> None:
    async def story() -> AsyncIterator[Any]:
        yield {"data": {"error": "not now"}, "event": "error"}
        yield {"data": 1, "event": "data"}
        raise RuntimeError("secret")

    browser = Browser()
    await browser.get(SSEResponse(story()))
    assert [block.event for block in browser.blocks] == ["error", "data", "fatal_error"]
    assert "secret" not in browser.blocks[-1].raw.decode()
    assert browser.blocks[-1].json.keys() == {"error", "reason", "id"}
    assert browser.ended


@given(st.text(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n\0")))
def test_no_text_breaks_a_block(text: str, name: str) -> None:
    (block,) = Reader().feed(event_block({"data": text, "event": "e" + name.strip()}))
    shown = text.encode(errors="replace").decode()
    assert block.data == shown.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("field", ["event", "id"])
def test_a_name_or_id_of_two_lines_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is .*; it must not have a line break"):
        event_block({"data": 1, field: "a\nb"})


def test_whole_blocks_stay_as_they_are() -> None:
    blocks = b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n"
    assert event_block(blocks) == blocks
