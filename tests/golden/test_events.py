import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.golden.adapter import (
    DIALECTS,
    GOLDEN,
    declared_events,
    golden_files,
    load,
    name_of,
    render_checkpoint,
    render_event,
    render_heartbeat,
    render_list_events,
    render_notice,
    render_opening,
    render_response,
)

EDGE_BLOCKS = {"opening", "heartbeat", "gap", "error", "challenge", "conflated"}

EDGE_RENDERERS: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
    "opening": render_opening,
    "heartbeat": render_heartbeat,
}


def examples(*folders: str) -> list[Any]:
    """Return the examples of all golden files in some folders, each under its own name."""
    return [
        pytest.param(example, id=f"{name_of(path)}: {example['name']}")
        for folder in folders
        for path in golden_files(folder)
        for example in load(path)
    ]


def wire(example: Mapping[str, Any]) -> bytes:
    """Return the bytes that an example's lines stand for."""
    return "\n".join(example["block"]).encode("ascii")


@pytest.mark.parametrize("example", examples("events"))
def test_an_event_is_rendered_as_the_bytes_that_clients_have_seen(example: dict[str, Any]) -> None:
    assert render_event(example) == wire(example)


@pytest.mark.parametrize("example", examples("lists"))
def test_a_list_of_jobs_is_rendered_as_the_bytes_that_clients_have_seen(
    example: dict[str, Any],
) -> None:
    assert b"".join(render_list_events(example)) == wire(example)


@pytest.mark.parametrize("example", examples("edge"))
def test_a_block_of_the_edge_is_rendered_as_the_bytes_that_clients_have_seen(
    example: dict[str, Any],
) -> None:
    render = EDGE_RENDERERS.get(example["kind"], render_notice)
    assert render(example) == wire(example)


@pytest.mark.parametrize("example", examples("checkpoints"))
def test_a_checkpoint_is_rendered_as_the_bytes_that_clients_have_seen(
    example: dict[str, Any],
) -> None:
    assert render_checkpoint(example) == wire(example)


@pytest.mark.parametrize("example", examples("sse_response"))
def test_a_yielded_value_is_rendered_as_the_bytes_that_clients_have_seen(
    example: dict[str, Any],
) -> None:
    assert render_response(example) == wire(example)


@pytest.mark.parametrize("example", examples("events"))
def test_the_id_is_the_last_line_of_an_event_and_the_data_is_what_the_example_says(
    example: dict[str, Any],
) -> None:
    *lines, last, end, rest = example["block"]
    assert last == f"id: {example['id']}"
    assert (end, rest) == ("", "")
    text = "\n".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    data = json.loads(text) if example["data_format"] == "json" else text
    assert data == example["data"]


def test_every_event_of_every_channel_has_a_golden_file() -> None:
    pinned = {
        (example["dialect"], example["channel"], example["event"])
        for path in golden_files("events")
        for example in load(path)
    }
    assert pinned == declared_events()


@pytest.mark.parametrize("path", golden_files("events"), ids=name_of)
def test_a_golden_file_is_named_for_the_dialect_and_the_event_of_its_examples(path: Path) -> None:
    named = {(example["dialect"], example["event"]) for example in load(path)}
    assert named == {(path.parent.name, path.stem)}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_has_a_golden_file_for_each_block_of_the_edge(dialect: str) -> None:
    pinned = {path.stem for path in golden_files(f"edge/{dialect}")}
    assert pinned == EDGE_BLOCKS


def test_every_golden_file_is_ascii_with_lf_and_two_spaces_of_indent() -> None:
    for path in sorted(GOLDEN.rglob("*.json")):
        text = json.dumps(load(path), indent=2)
        assert path.read_bytes() == f"{text}\n".encode("ascii"), name_of(path)
