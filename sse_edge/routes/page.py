"""The page at `/`, with its scripts and styles. It loads nothing from elsewhere.

The browser enforces this by the Content-Security-Policy: no inline script, no other host. Files are
checked for changes at every load, so that a page never mixes modules of two versions.
"""

from functools import cache
from html import escape
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "page"

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_LINK_TO_DOCS = ' · <a href="/docs">API</a>'

router = APIRouter()


@router.get("/", include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """Return the page."""
    state = request.app.state
    return HTMLResponse(page_with(state.notice, has_docs=state.has_docs), headers=HEADERS)


@cache
def page_with(notice: str | None, *, has_docs: bool = True) -> str:
    """Return the page with the operator's notice in place, so that nothing moves for it.

    Args:
        notice: a sentence for everybody; None for no notice.
        has_docs: whether `/docs` is on the port of the page, which then links to it.
    """
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    if not has_docs:
        assert _LINK_TO_DOCS in text, "the page links to the documentation"
        text = text.replace(_LINK_TO_DOCS, "")
    if notice is None:
        return text
    before, found, after = text.partition(" hidden></aside>")
    assert found, "the page has a place for the notice"
    return f"{before}>{escape(notice)}</aside>{after}"


class Assets(StaticFiles):
    """The files of the page."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, with the headers of the page."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response
