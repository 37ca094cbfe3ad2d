"""`tapewire limits`: sets and lists the limits of portfolios through any edge."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from cli.edge_client import authorization, no_edge_at
from cli.responses import check

_TIMEOUT_S = 10.0


def show(url: str, portfolio_id: str | None, bearer: str | None) -> Sequence[str]:
    """Return the limits that were set, as lines of a table.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    path = "" if portfolio_id is None else _path(portfolio_id)
    answer = _call("GET", url, path, bearer, None)
    rows = answer if isinstance(answer, list) else [answer]
    lines = [line for row in rows for line in _lines(row)]
    return lines or ["no limits were set; the processors' defaults hold"]


def put(
    url: str, portfolio_id: str, limits: Mapping[str, Any], bearer: str | None
) -> Sequence[str]:
    """Replace a portfolio's limits, and return the new ones as lines of a table.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    return _lines(_call("PUT", url, _path(portfolio_id), bearer, limits))


def withdraw(url: str, portfolio_id: str, bearer: str | None) -> Sequence[str]:
    """Withdraw a portfolio's limits.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    _call("DELETE", url, _path(portfolio_id), bearer, None)
    return [f"{portfolio_id}: the processors' defaults hold"]


def _path(portfolio_id: str) -> str:
    return f"/{quote(portfolio_id, safe='')}"


def _call(method: str, url: str, path: str, bearer: str | None, body: object) -> Any:
    headers = authorization(bearer)
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers=headers) as http:
            response = http.request(method, f"/api/v1/limits{path}", json=body)
    except httpx.TransportError as error:
        raise no_edge_at(url, error) from error
    check(response)
    return response.json()


def _lines(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['portfolio_id']:<24} {limit['metric']:<7} {limit['limit']:<8g} "
        f"warn {_ratio(limit['warn_ratio'])}, critical {_ratio(limit['critical_ratio'])}; "
        f"set {row['set_at']}{_by(row['set_by'])}"
        for limit in row["limits"]
    ]


def _ratio(ratio: float | None) -> str:
    return "never" if ratio is None else f"at {ratio:.0%}"


def _by(name: str | None) -> str:
    return "" if name is None else f" by {name}"
