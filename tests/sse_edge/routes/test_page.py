"""How the page is served; what it does is in tests/journeys/test_page.py."""

import re

import httpx
import pytest

from sse_edge.app import build_api
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.routes.page import FOLDER, page_with
from sse_edge.settings import EdgeSettings


async def get(path: str) -> httpx.Response:
    transport = httpx.ASGITransport(build_api(EdgeSettings(), FairQueue()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.get(path)


@pytest.mark.parametrize("path", ["/", "/assets/app.js", "/assets/style.css", "/assets/icon.svg"])
async def test_the_page_and_its_files_forbid_everything_from_elsewhere(path: str) -> None:
    answer = await get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-cache"


def test_the_notice_is_in_the_page_from_the_beginning() -> None:
    page = page_with("Demo: <b> & more")
    assert (
        '<aside id="banner" aria-label="About this system">Demo: &lt;b&gt; &amp; more</aside>'
        in page
    )
    assert page_with(None) == (FOLDER / "index.html").read_text(encoding="utf-8")


def test_the_page_links_to_the_documentation_only_on_the_same_port() -> None:
    assert '<a href="/docs">' in page_with(None)
    assert "/docs" not in page_with(None, has_docs=False)


def test_every_module_that_the_page_imports_exists() -> None:
    scripts = list(FOLDER.glob("*.js"))
    assert len(scripts) > 10
    for script in scripts:
        for name in re.findall(r'from "(.+?)"', script.read_text(encoding="utf-8")):
            target = FOLDER / name.removeprefix("/assets/").removeprefix("./")
            assert target.is_file(), f"{script.name} imports {name}"


def test_the_page_names_no_inline_style_or_script() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<script>|<style", page)
