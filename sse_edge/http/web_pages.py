"""Keeps web pages of others away from the edge: by the host that a request names, and its origin.

A browser lets any page send requests to an edge that it can reach, and adds its cookies.

- **Host.** A page can make the name of its own server resolve to this machine (DNS rebinding), and
  then counts as a page of the edge. So an open edge answers only to names of this machine, and to
  those of `TAPEWIRE_HOSTS`; one with an issuer answers to any name unless this setting is given.
- **Origin.** What writes, and a WebSocket, is refused to pages of other origins than the edge's own
  and those of `TAPEWIRE_CORS_ORIGINS`. Where a browser sends no origin, as for images and links, it
  says in `Sec-Fetch-Site` whose page has sent the request. Programs send neither.

Reading by GET is refused to nobody: CORS keeps pages of other origins from the answer.
"""

import re
from ipaddress import ip_address
from typing import cast
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from sse_edge.errors import ForeignPage, MisdirectedRequest
from sse_edge.settings import EdgeSettings

LOCAL_PAGES = r"http://(localhost|127\.0\.0\.1)(:\d{1,5})?"
"""The origins whose pages may read and write on an open edge, which serves this machine only."""

_LOCAL_PAGE = re.compile(LOCAL_PAGES)
_SECURE = frozenset({"https", "wss"})
_SHOWN_CHARS = 80


class WebPageRules:
    """The hosts that an edge answers to, and the origins whose pages may write."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._is_open = settings.is_open
        self._hosts = None if settings.hosts is None else frozenset(map(str.lower, settings.hosts))
        self._origins = frozenset(settings.cors_origins or ())
        self._allows_local_pages = settings.is_open and settings.cors_origins is None

    def refuse_foreign_host(self, connection: HTTPConnection) -> None:
        """Return if a request is for a host that the edge answers to.

        Raises:
            MisdirectedRequest: it is for another one.
        """
        if not self._is_open and self._hosts is None:
            return
        for host in connection.headers.getlist("host"):
            name = _name_of(host)
            if not (_is_of_this_machine(name) or name in (self._hosts or ())):
                raise MisdirectedRequest(
                    f"this edge does not answer to the host {host[:_SHOWN_CHARS]!r}; "
                    "TAPEWIRE_HOSTS names the hosts that it answers to"
                )

    def refuse_foreign_page(self, connection: HTTPConnection) -> None:
        """Return if a request comes from a program, or from a page that may write.

        Raises:
            ForeignPage: it comes from another page.
        """
        origin = connection.headers.get("origin")
        if origin is not None:
            if not self._is_allowed(origin, connection):
                raise ForeignPage(
                    f"pages of {origin[:_SHOWN_CHARS]!r} may not write here; "
                    "TAPEWIRE_CORS_ORIGINS names those that may"
                )
            return
        site = connection.headers.get("sec-fetch-site", "none").strip().lower()
        # All pages of one site as this machine's are pages of this machine.
        if site == "cross-site" or (site == "same-site" and not self._allows_local_pages):
            raise ForeignPage(
                f"a page of another origin has sent this request ({site}); it may not write here"
            )

    def _is_allowed(self, origin: str, connection: HTTPConnection) -> bool:
        if origin in self._origins:
            return True
        if self._allows_local_pages and _LOCAL_PAGE.fullmatch(origin):
            return True
        page = urlsplit(origin)
        if connection.scope["scheme"] in _SECURE and page.scheme != "https":
            return False
        return (
            bool(page.netloc) and page.netloc.lower() == connection.headers.get("host", "").lower()
        )


def web_page_rules_of(connection: HTTPConnection) -> WebPageRules:
    """Return the rules of the application."""
    return cast("WebPageRules", connection.app.state.web_page_rules)


def _name_of(host: str) -> str:
    """Return a host without its port, in the one spelling that names are compared in."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_of_this_machine(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
