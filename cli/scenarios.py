"""`tapewire scenarios`: puts, lists and withdraws stress scenarios through any edge."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cli.answers import Answer
from cli.edge_client import ask

_ROOT = "/api/v1/scenarios"


def listed(url: str, bearer: str | None) -> Answer:
    """Return all scenarios.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    rows = ask("GET", url, _ROOT, bearer)
    return Answer(rows, [_line(row) for row in rows] or ["there are no scenarios"])


def shown(url: str, name: str, bearer: str | None) -> Answer:
    """Return a scenario and its shocks.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    row = ask("GET", url, _path(name), bearer)
    shocks = [f"  {shock['series_id']:<24} {shock['value']:+.6g}" for shock in row["shocks"]]
    return Answer(row, [_line(row), *shocks])


def put(url: str, name: str, scenario: Mapping[str, Any], bearer: str | None) -> Answer:
    """Replace a scenario, and return it.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    row = ask("PUT", url, _path(name), bearer, body=scenario)
    return Answer(row, [_line(row)])


def delete(url: str, name: str, bearer: str | None) -> Answer:
    """Withdraw a scenario.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    withdrawn = ask("DELETE", url, _path(name), bearer)
    return Answer(withdrawn, [f"{name}: withdrawn"])


def _path(name: str) -> str:
    return f"{_ROOT}/{quote(name, safe='')}"


def _line(row: Mapping[str, Any]) -> str:
    by = "" if row["set_by"] is None else f" by {row['set_by']}"
    return (
        f"{row['name']:<24} version {row['version']}, {_source(row)}, "
        f"{row['series']} shocks; set {row['set_at']}{by}"
    )


def _source(row: Mapping[str, Any]) -> str:
    if row["from"] is not None:
        return f"{row['from']} to {row['to']}, {row['days']} days"
    if row["factor"] is not None:
        return f"hypothetical, others by beta to {row['factor']}"
    return "hypothetical, others zero"
