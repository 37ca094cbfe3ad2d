"""`tapewire limits`: sets and lists the limits of portfolios through any edge."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cli.answers import Answer
from cli.edge_client import ask
from cli.limit_requests import temporary_text

_ROOT = "/api/v1/limits"


def show(url: str, portfolio_id: str | None, bearer: str | None) -> Answer:
    """Return the limits that were set.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    path = "" if portfolio_id is None else _path(portfolio_id)
    answer = ask("GET", url, f"{_ROOT}{path}", bearer)
    rows = answer if isinstance(answer, list) else [answer]
    lines = [line for row in rows for line in _lines(row)]
    return Answer(rows, lines or ["no limits were set; the processors' defaults hold"])


def put(url: str, portfolio_id: str, limits: Mapping[str, Any], bearer: str | None) -> Answer:
    """Replace a portfolio's limits, and return the new ones.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    row = ask("PUT", url, f"{_ROOT}{_path(portfolio_id)}", bearer, body=limits)
    return Answer(row, _lines(row))


def withdraw(url: str, portfolio_id: str, bearer: str | None) -> Answer:
    """Withdraw a portfolio's limits.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    row = ask("DELETE", url, f"{_ROOT}{_path(portfolio_id)}", bearer)
    return Answer(row, [f"{portfolio_id}: the processors' defaults hold"])


def _path(portfolio_id: str) -> str:
    return f"/{quote(portfolio_id, safe='')}"


def _lines(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['portfolio_id']:<24} {limit['metric']:<7} {limit['limit']:<8g} "
        f"{temporary_text(limit.get('temporary'))}"
        f"warn {_ratio(limit['warn_ratio'])}, critical {_ratio(limit['critical_ratio'])}; "
        f"set {row['set_at']}{_by(row['set_by'])}"
        for limit in row["limits"]
    ]


def _ratio(ratio: float | None) -> str:
    return "never" if ratio is None else f"at {ratio:.0%}"


def _by(name: str | None) -> str:
    return "" if name is None else f" by {name}"
