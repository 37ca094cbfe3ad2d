"""Writes what an engine needs of the catalogue as one JSON file: tables, topics and Avro schemas.

An engine runs in an environment of its own, without Tapewire's code. So a job reads this file:

    python -m analytics.engines.plan RiskMeasure RiskAlert --out plan.json

With `--registry`, it also has the ids that a schema registry gives to the versions of the schemas,
which values in Confluent framing have at their start.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analytics.table_names import is_event
from kafka_io.settings import ProducerSettings
from kafka_io.subjects import subjects
from schemas.codec import MARKER, fingerprint_of_schema, version_of, versions
from schemas.topics import REGISTRY

Plan = dict[str, Any]


def make_plan(names: Sequence[str], *, prefix: str = "", ids: Mapping[str, list[int]]) -> Plan:
    """Return the tables of some event classes.

    Args:
        names: the classes; none for all that tell the time of what happened.
        prefix: the prefix of the topics' names.
        ids: a registry's ids of a version of a schema, by its fingerprint in hexadecimal digits.

    Raises:
        ValueError: no topic carries a class of such a name.
    """
    known = {registration.record.__name__: registration for registration in REGISTRY}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"no topic carries {', '.join(unknown)}; they carry {', '.join(known)}")
    tables = []
    for name in names or [name for name, row in known.items() if is_event(row.record)]:
        topic = known[name].topic
        others = [kind.__name__ for kind in topic.records if kind.__name__ != name]
        tables.append(
            {
                "name": name,
                "topic": f"{prefix}{topic.name}",
                "reader": versions(name)[-1],
                "writers": _writers(name, ids),
                # Records of unknown classes are kept in one table only.
                "takes_rest": topic.record.__name__ == name,
                "others": [writer for other in others for writer in _writers(other, ids)],
            }
        )
    return {"tables": tables}


def registered_ids(client: Any, prefix: str = "") -> dict[str, list[int]]:
    """Return the ids that a schema registry gives to known schemas, by fingerprint.

    Args:
        client: a `SchemaRegistryClient` of confluent-kafka.
        prefix: the prefix of the topics' names; see `kafka_io.subjects`.
    """
    known = set(client.get_subjects())
    found: dict[str, list[int]] = {}
    for subject in subjects(prefix):
        for version in client.get_versions(subject.name) if subject.name in known else ():
            registered = client.get_version(subject.name, version)
            mark = fingerprint_hex(json.loads(registered.schema.schema_str))
            ids = found.setdefault(mark, [])
            is_ours = version_of(MARKER + bytes.fromhex(mark)) is not None
            if is_ours and registered.schema_id not in ids:
                ids.append(registered.schema_id)
    return {mark: ids for mark, ids in found.items() if ids}


def fingerprint_hex(schema: Mapping[str, Any]) -> str:
    """Return a schema's CRC-64-AVRO as values in single-object encoding have it, in hexadecimal."""
    return fingerprint_of_schema(dict(schema)).hex()


def _writers(name: str, ids: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Return each version of a schema with the bytes that values in it begin with."""
    writers = []
    for schema in versions(name):
        mark = fingerprint_hex(schema)
        heads = [(MARKER + bytes.fromhex(mark)).hex()]
        heads += [(b"\0" + schema_id.to_bytes(4)).hex() for schema_id in ids.get(mark, ())]
        writers.append({"heads": heads, "schema": schema})
    return writers


def _ids_at(url: str | None, prefix: str) -> dict[str, list[int]]:
    if url is None:
        return {}
    # Plans without a registry need no client of one.
    from confluent_kafka.schema_registry import (  # noqa: PLC0415  # see above
        SchemaRegistryClient,
    )

    return registered_ids(SchemaRegistryClient({"url": url}), prefix)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a plan, and return 1 if there is no such class."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("classes", nargs="*", help="event classes, as in RiskMeasure; all without")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--registry", help="the URL of a schema registry, such as .../ccompat/v7")
    given = parser.parse_args(arguments)
    prefix = ProducerSettings().topic_prefix
    try:
        plan = make_plan(given.classes, prefix=prefix, ids=_ids_at(given.registry, prefix))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    given.out.write_text(json.dumps(plan, indent=1), encoding="utf-8")
    sys.stdout.write(f"{given.out}: {len(plan['tables'])} tables\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
