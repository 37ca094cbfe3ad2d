"""OpenAPI describes every stream, and each of its events as it comes."""

from typing import Any

import pytest

from schemas.codec import decode, encode
from sse_edge.app import build_api
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import CHANNELS
from tests.support.sse import Reader


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_api(EdgeSettings(), FairQueue()).openapi()


@pytest.fixture(scope="module")
def paths(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]
    return found


STREAMS = {
    "/api/v1/sse/training": "training",
    "/api/v1/sse/backtest": "backtest",
    "/api/v1/sse/alerts": "alerts",
    "/api/v1/sse/measures": "measures",
    "/api/v1/sse/dashboard": "dashboard",
    "/trainmodel/stream/{task_id}": "trainmodel",
    "/trainmodel/stream": "trainmodel",
    "/api/sse/backtest/{job_id}": "backtest_job",
    "/chat-stream": "chat",
    "/user-specific-stream/{user_id}": "user",
    "/process/stream": "agent",
}


@pytest.mark.parametrize(("path", "channel"), STREAMS.items())
def test_each_event_has_an_example_that_a_client_can_read(
    paths: dict[str, Any], path: str, channel: str
) -> None:
    openapi = paths[path]["get"]
    examples = openapi["responses"]["200"]["content"]["text/event-stream"]["examples"]
    assert set(examples) == CHANNELS[channel].events
    for example in examples.values():
        (block,) = Reader().feed(example["value"].encode())
        assert block.data
        assert block.id
    names = {parameter["name"] for parameter in openapi["parameters"]}
    assert {"Last-Event-ID", "from", "events", "slow", "token"} <= names


def test_every_channel_is_described() -> None:
    for channel in CHANNELS.values():
        assert all(isinstance(example, channel.topic.records) for example in channel.examples)
        encoded = [encode(example) for example in channel.examples]
        assert [encode(decode(value)) for value in encoded] == encoded


def test_every_endpoint_says_what_it_is_for(paths: dict[str, Any]) -> None:
    for path, methods in paths.items():
        for method, openapi in methods.items():
            assert openapi.get("summary"), (method, path)


def test_no_endpoint_promises_the_errors_of_the_framework(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, openapi in methods.items():
            assert "422" not in openapi["responses"], (method, path)
            refused = openapi["responses"]["4XX"]["content"]
            assert set(refused) == {"application/problem+json"}


def test_every_parameter_and_every_field_of_a_body_says_what_it_is(
    document: dict[str, Any],
) -> None:
    silent = [
        (path, parameter["name"])
        for path, methods in document["paths"].items()
        for openapi in methods.values()
        for parameter in openapi.get("parameters", ())
        if not parameter.get("description")
    ]
    silent += [
        (name, field)
        for name, model in document["components"]["schemas"].items()
        for field, described in model.get("properties", {}).items()
        if not described.get("description")
    ]
    assert silent == []
