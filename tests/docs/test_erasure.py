"""The guides on erasure and retention name the topics that are kept for ever."""

from pathlib import Path

import pytest

from kafka_io.topic_checks import HISTORIES
from schemas.topics import CATALOGUE, FOR_EVER_MS

GUIDES = Path(__file__).parents[2] / "docs/guides"


@pytest.mark.parametrize(
    "name", [topic.name for topic in CATALOGUE if topic.retention_ms == FOR_EVER_MS]
)
def test_each_topic_that_is_kept_for_ever_is_named(name: str) -> None:
    _, _, kept = (GUIDES / "erasure.md").read_text().partition("## Topics that are kept for ever")
    assert f"`{name}`" in kept
    assert f"| `{name}` |" in (GUIDES / "retention.md").read_text()


@pytest.mark.parametrize("name", sorted(HISTORIES))
def test_each_topic_that_a_rebuild_reads_is_named_with_the_consequence(name: str) -> None:
    lines = (GUIDES / "retention.md").read_text().splitlines()
    [line] = [line for line in lines if "a rebuild knows no more than the log" in line]
    assert f"`{name}`" in line
