"""Health checks, and metrics for Prometheus."""

import json
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from sse_edge.delivery.node import Node
from sse_edge.errors import Unavailable
from sse_edge.http.dependencies import NodeDep, multiprocess_metrics_of
from sse_edge.http.problem import problem
from sse_edge.metrics.node_metrics import Collector
from tapewire import __version__

router = APIRouter(tags=["health"])

_AWAY = frozenset({"down", "waiting"})


@router.get("/health/live", summary="Report that the process answers")
async def live() -> dict[str, str]:
    """Return 200 while the process runs."""
    return {"status": "live"}


@router.get("/api/v1/about", summary="Describe this system")
async def about(node: NodeDep) -> dict[str, str | None]:
    """Return the version of the edge, and the operator's notice for people, if there is one."""
    return {"version": __version__, "notice": node.settings.notice}


@router.get("/health", include_in_schema=False)
@router.get("/health/", summary="Same as `/health/ready`, for older clients")
async def health(node: NodeDep) -> Response:
    """Return 200 if streams can be served, else 503."""
    return _readiness(node)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request, node: NodeDep) -> Response:
    """Return the metrics of this process, or of all processes behind its port.

    In the format that `Accept` asks for: OpenMetrics, which has exemplars, or Prometheus' text.
    """
    shared = multiprocess_metrics_of(request)
    families = tuple(node.families())
    found = families if shared is None else tuple(shared.with_others(families))
    registry = CollectorRegistry()
    registry.register(Collector(lambda: found))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), media_type=media_type)


@router.get("/health/ready", summary="Report whether streams can be served")
async def ready(node: NodeDep) -> Response:
    """Return 200 if streams can be served, else 503.

    Below `tapewire up`, `parts` says which part of the system is `up`, `starting`, `down` or
    `waiting`, and since when. Streams are served also while another part is down.
    """
    return _readiness(node)


def _readiness(node: Node) -> Response:
    if node.unavailable_for is not None:
        return problem(Unavailable(node.unavailable_for, "streams cannot be served now"))
    parts = _parts(node.settings.parts_file)
    return JSONResponse({"status": "ready"} if parts is None else {"status": "ready", **parts})


def _parts(path: Path | None) -> dict[str, object] | None:
    """Return what the supervisor says of the parts; None if there is none, or nothing readable."""
    if path is None:
        return None
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        return {
            "down": sorted(name for name in parts if parts[name]["state"] in _AWAY),
            "parts": parts,
        }
    except (OSError, ValueError, TypeError, LookupError):
        return None
