"""Keeps tokens out of the log lines of libraries, and floods of their lines out of the log.

Tokens come in addresses, where a browser can set no header. uvicorn logs the address of each
WebSocket, and at DEBUG all its headers; httpx logs the address of an issuer's keys.

uvicorn also logs each WebSocket, each attempt to upgrade, and a traceback for each text that is no
UTF-8, so anybody could fill the disk. Its lines are bounded, and those that the edge logs itself
are left out.
"""

import logging
import re

from sse_edge.failure_log import LineBudget

_SERVER = "uvicorn.error"
_QUERY = re.compile(r"\?[^\s\"']*")
_LEAST_LEVELS = {_SERVER: logging.INFO, "websockets": logging.INFO, "httpx": logging.WARNING,
                 "httpcore": logging.WARNING}  # fmt: skip
"""The least severe lines of libraries whose others show headers or addresses."""


_LOGGED_ELSEWHERE = frozenset({"Invalid HTTP request received."})


class _Bounded(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._budget = LineBudget("lines of the server")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is logged."""
        return record.msg not in _LOGGED_ELSEWHERE and self._budget.allows()


class _WithoutQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the query off each address of a line, and let the line pass."""
        text = record.getMessage()
        if "?" in text:
            record.msg, record.args = _QUERY.sub("", text), ()
        return True


_FILTERS = (_Bounded, _WithoutQueries)


def hide_tokens() -> None:
    """Let no library of the edge log a token or a flood of lines from now on."""
    for name, least in _LEAST_LEVELS.items():
        known = logging.getLogger(name)
        known.setLevel(max(least, known.getEffectiveLevel()))
    server = logging.getLogger(_SERVER)
    for former in [known for known in server.filters if isinstance(known, _FILTERS)]:
        server.removeFilter(former)  # else the lines of a second edge would count twice
    for kind in _FILTERS:
        server.addFilter(kind())
