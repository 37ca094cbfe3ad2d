"""`tapewire books`: sets, closes and lists books and their limits through any edge."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cli.answers import Answer
from cli.edge_client import ask
from cli.errors import InvalidArgument
from cli.limit_requests import temporary_text

_BOOKS = "/api/v1/books"


def put(edge: str, book: str, body: Mapping[str, Any], bearer: str | None) -> Answer:
    """Replace all holdings of a book, and return what it holds now.

    Args:
        edge: the edge's address.
        book: the book, as ROOT/BOOK.
        body: the book, as `PUT /api/v1/books/ROOT/BOOK` takes it.
        bearer: the caller's token; None for none.

    Raises:
        InvalidArgument: the name is no book's.
        RequestRefused: the edge refused the book; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    shown = ask("PUT", edge, _path(book), bearer, body=body)
    currency = "" if shown["currency"] is None else f" {shown['currency']}"
    lines = [
        f"{holding['series_id']:<24} {holding['quantity']:>14g} at {holding['price']:g}{currency}"
        for holding in shown["holdings"]
    ]
    return Answer(shown, lines or [f"{book} holds nothing itself"])


def close(edge: str, book: str, bearer: str | None) -> Answer:
    """Close a book.

    Raises:
        InvalidArgument: the name is no book's.
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    closed = ask("DELETE", edge, _path(book), bearer)
    return Answer(closed, [f"{book} is closed"])


def show(edge: str, root: str, bearer: str | None) -> Answer:
    """Return the risk of each book of a tree.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    risks = ask("GET", edge, f"{_BOOKS}/{quote(root, safe='')}", bearer)
    return Answer(risks, [_risk_line(risk) for risk in risks])


def put_limits(edge: str, book: str, body: Mapping[str, Any], bearer: str | None) -> Answer:
    """Replace a book's limits.

    Args:
        edge: the edge's address.
        book: the book, as ROOT/BOOK.
        body: the limits, as `PUT /api/v1/books/ROOT/BOOK/limits` takes them.
        bearer: the caller's token; None for none.

    Raises:
        InvalidArgument: the name is no book's.
        RequestRefused: the edge refused the limits; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    shown = ask("PUT", edge, f"{_path(book)}/limits", bearer, body=body)
    lines = []
    for row in shown["limits"]:
        temporary = temporary_text(row.get("temporary"))
        line = f"{book}: {row['metric']} up to {row['limit']:g}; {temporary}"
        lines.append(line.removesuffix("; "))
    return Answer(shown, lines)


def withdraw_limits(edge: str, book: str, bearer: str | None) -> Answer:
    """Withdraw all limits of a book.

    Raises:
        InvalidArgument: the name is no book's.
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    shown = ask("DELETE", edge, f"{_path(book)}/limits", bearer)
    return Answer(shown, [f"{book} has no limits"])


def _path(book: str) -> str:
    root, slash, name = book.partition("/")
    if not (root and slash and name) or "/" in name:
        raise InvalidArgument(f"{book!r} names no book; write ROOT/BOOK, as in firm/tech")
    return f"{_BOOKS}/{quote(root, safe='')}/{quote(name, safe='')}"


def _risk_line(risk: Mapping[str, Any]) -> str:
    currency = risk.get("currency") or ""
    amount = risk["amounts"].get("var_95")
    var = "no VaR" if amount is None else f"VaR {amount:.2f} {currency}".rstrip()
    share = "" if risk["var_95"] is None else f", {risk['var_95']:.2%} of the net asset value"
    reason = "" if risk.get("reason") is None else f" ({risk['reason']})"
    return f"{risk['path']:<24} {var}{share}; {risk['status']}{reason}, as of {risk['as_of']}"
