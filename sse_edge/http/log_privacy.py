"""Keeps the tokens of requests out of the log lines of libraries, at every level.

Tokens come in addresses, where a browser can set no header. uvicorn logs the address of each
WebSocket, and at DEBUG all its headers; httpx logs the address of an issuer's keys.
"""

import logging
import re

_SERVER = "uvicorn.error"
_QUERY = re.compile(r"\?[^\s\"']*")
_LEAST_LEVELS = {_SERVER: logging.INFO, "websockets": logging.INFO, "httpx": logging.WARNING,
                 "httpcore": logging.WARNING}  # fmt: skip
"""The least severe lines of libraries whose others show headers or addresses."""


class _WithoutQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the query off each address of a line, and let the line pass."""
        text = record.getMessage()
        if "?" in text:
            record.msg, record.args = _QUERY.sub("", text), ()
        return True


def hide_tokens() -> None:
    """Let no library of the edge log a token from now on."""
    for name, least in _LEAST_LEVELS.items():
        known = logging.getLogger(name)
        known.setLevel(max(least, known.getEffectiveLevel()))
    logging.getLogger(_SERVER).addFilter(_WithoutQueries())
