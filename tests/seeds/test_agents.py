"""Clients of agents: an `EventSource` sees a whole run, and no error."""

import pytest

from tests.seeds.conftest import Build, Open
from tests.seeds.snippets import Snippets

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.mark.usefixtures("system")
async def test_a_page_shows_a_run_to_its_end(snippets: Snippets, open_page: Open) -> None:
    screen = await open_page(snippets.text("agents/page.js"))
    await screen.logs("Done!")
    assert screen.errors == []


@pytest.mark.parametrize("react", [19, 18])
@pytest.mark.usefixtures("system")
async def test_a_react_component_shows_each_event(
    snippets: Snippets, build: Build, open_page: Open, react: int
) -> None:
    screen = await open_page(build(snippets, react)["agent"])
    await screen.page.click("text=Start Stream")
    await screen.page.wait_for_selector("text=completed:", timeout=60_000)
    text = await screen.text()
    assert "response_chunk" in text
    assert "rror" not in text
    assert await screen.page.is_enabled("text=Start Stream")
