"""The HTTP interface as clients know it: paths, parameters, bodies and status codes.

Texts may change; the rest is a promise. `python -m tests.golden.test_openapi_surface` writes the
golden file anew after a change that is intended.
"""

import json
from pathlib import Path
from typing import Any

from sse_edge.app import build_api
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.settings import EdgeSettings

GOLDEN = Path(__file__).with_name("openapi_surface.json")


def surface() -> dict[str, Any]:
    document = build_api(EdgeSettings(), FairQueue()).openapi()
    schemas = document["components"]["schemas"]
    return {
        "endpoints": {
            f"{method.upper()} {path}": endpoint(described)
            for path, methods in sorted(document["paths"].items())
            for method, described in sorted(methods.items())
        },
        "models": {
            name: {
                "fields": sorted(model.get("properties", {})),
                "required": sorted(model.get("required", [])),
                **({"values": model["enum"]} if "enum" in model else {}),
            }
            for name, model in sorted(schemas.items())
        },
    }


def endpoint(described: dict[str, Any]) -> dict[str, Any]:
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {
        "parameters": sorted(
            f"{parameter['in']} {parameter['name']}{' *' * parameter.get('required', False)}"
            for parameter in described.get("parameters", [])
        ),
        "body": body.get("schema", {}).get("$ref", "").rpartition("/")[2] or None,
        "statuses": sorted(described["responses"]),
    }


def test_the_interface_is_the_one_that_clients_know() -> None:
    assert surface() == json.loads(GOLDEN.read_text(encoding="ascii"))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(surface(), indent=2) + "\n", encoding="ascii")
