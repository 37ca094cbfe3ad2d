"""One system, one browser and one build of the pages for all tests of this folder."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    TimeoutError as PlaywrightTimeout,
    async_playwright,
)

from infra.demo_issuer import jwks_path, token
from tests.conftest import Started, TestKafka, World, open_world
from tests.seeds.snippets import CLIENTS, PLACES, OwnClients, Snippets, documents
from tests.support.bundles import bundle, install

PAGES = Path(__file__).parent / "pages"

Build = Callable[[Snippets, int], Mapping[str, str]]


@dataclass
class System:
    """A whole system, and who uses it."""

    world: World
    edge: Started
    token: str
    has_candles: bool = False
    """Whether jobs on minutes have enough bars."""

    @property
    def url(self) -> str:
        return self.edge.url

    async def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            answer = await http.request(method, path, json=body, headers=headers)
        return answer.raise_for_status().json()

    async def submit(self, **job: object) -> str:
        return str((await self.call("POST", "/api/backtesting/jobs", job))["job_id"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(
    kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[System]:
    folder = tmp_path_factory.mktemp("seeds")
    settings = {"demo_jwks": jwks_path(folder), "retry_ms": 200, "ping_s": 1}
    async with open_world(kafka, folder) as world:
        async with asyncio.TaskGroup() as starting:
            edge = starting.create_task(world.edge(**settings))
            starting.create_task(world.worker())
            starting.create_task(world.market())
            starting.create_task(world.backtester(backtest_step_pause_s=0.1))
            starting.create_task(world.trainer())
            starting.create_task(world.orchestrator())
        yield System(world, edge.result(), token(folder, "alice", None, 3600))


@pytest.fixture(params=["own", "document"])
def snippets(request: pytest.FixtureRequest) -> Snippets:
    """The clients of the repository, then those of the documents."""
    return OwnClients() if request.param == "own" else documents()


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the pages with the clients of a source and a version of React, each pair once."""
    root = tmp_path_factory.mktemp("pages")
    built: dict[tuple[str, int], Mapping[str, str]] = {}

    def pages_of(snippets: Snippets, react: int) -> Mapping[str, str]:
        if not (root / "node_modules").exists():
            install(root)
        folder = root / snippets.name
        if (snippets.name, react) not in built:
            _write_sources(folder, snippets)
            entries = sorted(path for path in folder.glob("*.ts*") if path.stem in ENTRIES)
            built[snippets.name, react] = bundle(root, entries, react=react)
        return built[snippets.name, react]

    return pages_of


ENTRIES = ("agent", "backtests", "desk", "manager", "training", "vue")


def _write_sources(folder: Path, snippets: Snippets) -> None:
    """Write the drivers and the clients; the clients' base URL is the page's own origin."""
    for path in PAGES.rglob("*.*"):
        copy = folder / path.relative_to(PAGES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "hooks" / "stream.ts").write_text((CLIENTS / "hooks" / "stream.ts").read_text())
    for file in PLACES:
        if not (file.startswith(("hooks/", "views/")) or file.endswith(".ts")):
            continue
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        text = snippets.text(file)
        for name in _NEEDED.get(file, (path.stem,) if file.startswith("views/") else ()):
            if f"export function {name}" not in text:
                text += f"\nexport {{ {name} }};\n"
        path.write_text(_IMPORTS.get(file, "") * (snippets.name == "document") + text)


_NEEDED = {
    "hooks/useTrainingProgress.tsx": ("TrainingProgressBar",),
    "hooks/useRetries.tsx": ("useSSE",),
}
"""The names that drivers use of a client, which does not export them."""
_IMPORTS = {"hooks/useRetries.tsx": 'import { useEffect, useState } from "react";\n'}
"""The names that clients of the documents use and do not import."""


@dataclass
class Screen:
    """A page of a browser, with what it has logged."""

    page: Page
    logged: list[str] = field(default_factory=list)
    """Messages of the console, as `TYPE: TEXT`."""
    faults: list[str] = field(default_factory=list)
    """Exceptions that nothing in the page has caught."""

    def listen(self) -> None:
        self.page.on("console", self._log)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _log(self, line: ConsoleMessage) -> None:
        if not line.location["url"].endswith("/favicon.ico"):
            self.logged.append(f"{line.type}: {line.text}")

    @property
    def errors(self) -> list[str]:
        """The errors in the console."""
        return [line for line in self.logged if line.startswith("error")]

    async def text(self) -> str:
        return await self.page.inner_text("body")

    async def shows(self, selector: str, within_s: float = 60) -> None:
        try:
            await self.page.wait_for_selector(selector, state="attached", timeout=within_s * 1000)
        except PlaywrightTimeout:
            shown = await self.page.eval_on_selector_all(
                "section", "all => all.map((each) => each.outerHTML)"
            )
            raise AssertionError(f"{selector} is missing in {shown!r}; {self.logged}") from None

    async def holds(self, condition: str, within_s: float = 60) -> None:
        """Wait until an expression of the page is true.

        The browser asks ten times a second: by default it asks with each frame that it draws, and
        it need not draw any.
        """
        try:
            await self.page.wait_for_function(condition, polling=100, timeout=within_s * 1000)
        except PlaywrightTimeout:
            raise AssertionError(f"never true: {condition}; {self.logged}") from None

    async def logs(self, text: str, within_s: float = 60) -> str:
        """Wait until a message with a text has been logged, and return it."""
        async with asyncio.timeout(within_s):
            while not (found := [message for message in self.logged if text in message]):
                await self.page.wait_for_event("console", timeout=within_s * 1000)
        return found[0]


Open = Callable[..., Any]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(system: System, browser: Browser) -> AsyncGenerator[Open]:
    """Opens pages on the edge's origin, with a script each; none may end with an uncaught error."""
    async with AsyncExitStack() as stack:
        screens: list[Screen] = []

        async def open_one(script: str, html: str = "") -> Screen:
            context = await browser.new_context()
            stack.push_async_callback(context.close)
            page = await context.new_page()
            screen = Screen(page)
            screen.listen()
            # A page that the edge itself serves: one that is made up may not open WebSockets to it.
            await page.goto(f"{system.url}/health/live?token={system.token}")
            await page.set_content(
                f"<!doctype html><meta charset=utf-8><body>{html}<script>{script}</script>"
            )
            screens.append(screen)
            return screen

        yield open_one
        assert [screen.faults for screen in screens if screen.faults] == []
