"""`python -m infra.chart_files`: the topics and the access of each part, as files of the chart.

The chart makes resources of Strimzi from them: `KafkaTopic` and `KafkaUser`.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from infra.acls import Grant, Resource, grants_of
from schemas.topics import CATALOGUE

FOLDER = Path(__file__).parent / "charts" / "tapewire" / "files"
USERS = (
    *("edge", "processor", "trainer", "backtester", "agents", "notifier", "market", "demo"),
    "reporter",
)
"""The parts that get a user; with Strimzi, topics are not made by a part."""
_TYPES: Mapping[Resource, str] = {
    Resource.TOPIC: "topic",
    Resource.GROUP: "group",
    Resource.TRANSACTIONAL_ID: "transactionalId",
}
_HEAD = "# Written by `python -m infra.chart_files`.\n"


def topics_file() -> str:
    """Return the catalogue of topics as YAML."""
    rows = (
        {"name": topic.name, "partitions": topic.partitions, "config": topic.config()}
        for topic in sorted(CATALOGUE, key=lambda topic: topic.name)
    )
    return _HEAD + "".join(f"- {json.dumps(row)}\n" for row in rows)


def acls_file() -> str:
    """Return the access that each part needs as YAML, in the form of Strimzi's `KafkaUser`."""
    text = _HEAD
    for user in USERS:
        text += f"{user}:\n"
        text += "".join(f"  - {json.dumps(acl)}\n" for acl in _acls_of(grants_of(user)))
    return text


def _acls_of(grants: list[Grant]) -> Iterator[Mapping[str, object]]:
    def what(grant: Grant) -> tuple[str, str, bool]:
        return _TYPES[grant.resource], grant.name, grant.is_prefix

    for (kind, name, is_prefix), same in groupby(sorted(grants, key=what), what):
        yield {
            "type": kind,
            "name": name,
            "patternType": "prefix" if is_prefix else "literal",
            "operations": [grant.operation.value for grant in same],
        }


def main() -> None:
    """Write the files."""
    (FOLDER / "topics.yaml").write_text(topics_file(), encoding="utf-8")
    (FOLDER / "acls.yaml").write_text(acls_file(), encoding="utf-8")


if __name__ == "__main__":
    main()
