"""`tapewire connections`: lists who is connected to the edges of a system, and closes one.

Any writer of the topic `edge.nodes` can name addresses in it. A token goes to the addresses that
the operator has named and to no others: edges elsewhere are asked through these, as a proxy
forwards some request to each of them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cli.edge_client import ask
from cli.errors import EdgeUnreachable, RequestRefused
from kafka_io.log_lines import escaped

_PATH = "/api/v1/connections"
_TRIES = 20
"""How often an address is asked until each of its processes has answered: each answers some."""
_PAGE = 1_000
_HINT = "; name their addresses by --edge: the token goes to no address that you have not named"


def find(
    url: str, bearer: str | None, count: int, edges: Collection[str] = ()
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return the connections of all nodes of a cluster, and what is not known of them.

    Args:
        url: the address of any edge.
        bearer: the caller's token, with the scopes `read` and `admin`; None for none.
        count: the most connections of each node.
        edges: further addresses that may get the token.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    found: dict[str, Mapping[str, Any]] = {}
    notes: list[str] = []
    status = ask("GET", url, "/api/v1/sse/status", bearer)
    for address, ids in addresses_of(status, url, _allowed(url, bearer, edges)).items():
        left = set(ids)
        try:
            for page in _pages(address, bearer, count):
                found |= {row["id"]: {**row, "edge": address} for row in page["connections"]}
                left.discard(page["node_id"])
                if not left:
                    break
        except (EdgeUnreachable, RequestRefused) as error:
            if address == url:
                raise
            notes.append(f"the connections at {address} are not known: {error}")
            continue
        if left:
            notes.append(
                f"{len(left)} processes have not answered at {address}{_HINT if bearer else ''}"
            )
    return sorted(found.values(), key=lambda row: row["since"]), notes


def close(
    url: str, bearer: str | None, connection_id: str, edges: Collection[str] = ()
) -> Mapping[str, Any]:
    """Close a connection, wherever it is, and return what it was.

    Raises:
        RequestRefused: no edge has the connection, or the edge refused the request.
        EdgeUnreachable: no edge answers at the address.
    """
    node_id = connection_id.rpartition(".")[0]
    path = f"{_PATH}/{quote(connection_id, safe='')}"
    status = ask("GET", url, "/api/v1/sse/status", bearer)
    nodes = addresses_of(status, url, _allowed(url, bearer, edges))
    homes = [address for address, ids in nodes.items() if node_id in ids] or [url]
    for _ in range(_TRIES):
        try:
            answer: Mapping[str, Any] = ask("DELETE", homes[0], path, bearer)
        except RequestRefused as error:
            if "no such connection" not in str(error):
                raise
            if len(nodes.get(homes[0], ())) <= 1:
                break
        else:
            closed: Mapping[str, Any] = answer["closed"]
            return closed
    raise RequestRefused(
        f"there is no connection {connection_id}; it may have ended, or its client has come back "
        "under another id: `tapewire connections` lists them, those of edges elsewhere with --edge"
    )


def _allowed(url: str, bearer: str | None, edges: Collection[str]) -> Collection[str] | None:
    """Return the addresses that may be asked; None for all, as there is no token to lose. Pure."""
    return None if bearer is None else {url, *(edge.rstrip("/") for edge in edges)}


def addresses_of(
    status: Mapping[str, Any], url: str, allowed: Collection[str] | None
) -> Mapping[str, Sequence[str]]:
    """Return the ids of the nodes to ask for at each address of a cluster. Pure.

    Args:
        status: the answer of `/api/v1/sse/status`.
        url: the address of the edge that has answered, for nodes without one.
        allowed: the addresses that may be asked; None for all. Nodes at others are asked for at
            `url`.
    """
    found: dict[str, list[str]] = {}
    for node in status.get("nodes", []):
        is_allowed = node["address"] and (allowed is None or node["address"] in allowed)
        found.setdefault(node["address"] if is_allowed else url, []).append(node["node_id"])
    return found or {url: []}


def lines_of(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[str]:
    """Return a line for each connection. Pure."""
    lines = [
        escaped(
            f"{row['id']:<24} since {row['since']}  {','.join(row['channels'])}  "
            f"{row['client_id']} from {row['address']}{_of_tenant(row)}{_behind(row)}"
        )
        for row in rows
    ]
    return [*(lines or ["nobody is connected"]), *map(escaped, notes)]


def _of_tenant(row: Mapping[str, Any]) -> str:
    return f" of {row['tenant']}" if row["tenant"] else ""


def _behind(row: Mapping[str, Any]) -> str:
    behind = f", {row['behind']} records behind" if row["behind"] else ""
    return f"{behind}, does not read" if row["paused"] else behind


def _pages(address: str, bearer: str | None, count: int) -> Iterator[Mapping[str, Any]]:
    for _ in range(_TRIES):
        yield ask("GET", address, _PATH, bearer, params={"limit": min(count, _PAGE)})
