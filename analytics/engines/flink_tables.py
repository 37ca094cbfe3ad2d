"""Writes statements of Flink SQL that declare the topics of event classes as tables.

    python -m analytics.engines.flink_tables RiskMeasure --servers localhost:9092
        --registry http://localhost:8081/apis/ccompat/v7 --out tables.sql

Flink reads Confluent framing only, so the writers of these topics need `TAPEWIRE_WIRE=confluent`.
It resolves each value's schema to the columns of the table, all of which may be null, since older
versions lack the columns of later ones. A record of another class in the same topic is a row
without values, so a query asks for a column that each row has: `WHERE portfolio_id IS NOT NULL`.

A table has the columns of the newest schema. Each time in microseconds has a second column, a
`TIMESTAMP_LTZ(3)` without `_us` in its name. A field that holds values of several types has none.
Windows are over `event_time`, or `as_of` of measures, or `_ingested_at` of records without a time.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from analytics.table_names import table_name
from kafka_io.settings import ProducerSettings
from schemas.codec import versions
from schemas.topics import REGISTRY

_PRIMITIVE = {
    "boolean": "BOOLEAN",
    "int": "INT",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "STRING",
    "bytes": "BYTES",
}
_TIME_TYPE = "timestamp-micros"
_EVENT_TIME = "event_time_us"
_PLACE = (
    "`_partition` INT METADATA FROM 'partition' VIRTUAL",
    "`_offset` BIGINT METADATA FROM 'offset' VIRTUAL",
    "`_ingested_at` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
)


class _SeveralTypes(Exception):
    """A field holds values of several types, for which Flink has no column."""


def table_statement(
    name: str,
    *,
    servers: str,
    registry: str,
    prefix: str = "",
    bounded: bool = False,
    options: Mapping[str, str] | None = None,
) -> str:
    """Return the statement that declares the topic of a class as a table.

    Args:
        name: the class.
        servers: Kafka's addresses, `host:port` with commas between.
        registry: the URL of the schema registry.
        prefix: the prefix of the topics' names.
        bounded: whether a query ends at the present end of the topic, instead of following it.
        options: further options of the table, such as `properties.security.protocol`.

    Raises:
        ValueError: no topic carries events of such a class.
    """
    known = {row.record.__name__: row for row in REGISTRY}
    if name not in known:
        raise ValueError(f"no topic carries {name}; they carry {', '.join(sorted(known))}")
    kind, topic = known[name].record, known[name].topic
    schema = versions(name)[-1]
    times = [field["name"] for field in schema["fields"] if _is_time(field["type"])]
    # Records such as batches have no time of their own.
    own = _EVENT_TIME if _EVENT_TIME in times else next(iter(times), "_ingested_at")
    time = own.removesuffix("_us")
    columns = [
        *_columns(schema),
        *_PLACE,
        # A minute behind, since the events of several partitions and writers are merged.
        f"WATERMARK FOR `{time}` AS `{time}` - INTERVAL '1' MINUTE",
    ]
    with_options = {
        "connector": "kafka",
        "topic": f"{prefix}{topic.name}",
        "properties.bootstrap.servers": servers,
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": "earliest-offset",
        "value.format": "avro-confluent",
        "value.avro-confluent.url": registry,
        **({"scan.bounded.mode": "latest-offset"} if bounded else {}),
        **(options or {}),
    }
    shown = ",\n".join(f"  {_text(key)} = {_text(value)}" for key, value in with_options.items())
    body = ",\n".join(f"  {column}" for column in columns)
    return f"CREATE TABLE `{table_name(kind)}` (\n{body}\n) WITH (\n{shown}\n);\n"


def _columns(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the columns of a record's fields, and of its times."""
    named: dict[str, str] = {}
    for field in schema["fields"]:
        try:
            kind = _type_of(field["type"], named)
        except _SeveralTypes:
            continue
        yield f"`{field['name']}` {kind}"
        if _is_time(field["type"]):
            instant = field["name"].removesuffix("_us")
            yield f"`{instant}` AS TO_TIMESTAMP_LTZ(`{field['name']}` / 1000, 3)"


def _type_of(schema: Any, named: dict[str, str]) -> str:
    """Return Flink's type of an Avro schema; `named` has those of the records before it."""
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if len(branches) != 1:
            raise _SeveralTypes
        return _type_of(branches[0], named)
    if isinstance(schema, str):
        return _PRIMITIVE.get(schema) or named[schema.rpartition(".")[2]]
    match schema["type"]:
        case "record":
            fields = []
            for field in schema["fields"]:
                try:
                    fields.append(f"`{field['name']}` {_type_of(field['type'], named)}")
                except _SeveralTypes:
                    continue
            named[schema["name"].rpartition(".")[2]] = found = f"ROW<{', '.join(fields)}>"
            return found
        case "array":
            return f"ARRAY<{_type_of(schema['items'], named)}>"
        case "map":
            return f"MAP<STRING, {_type_of(schema['values'], named)}>"
        case inner:
            return _type_of(inner, named)


def _is_time(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(_is_time(branch) for branch in schema)
    return isinstance(schema, dict) and schema.get("logicalType") == _TIME_TYPE


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the statements, and return 1 if there is no such class."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("classes", nargs="+", help="event classes, as in RiskMeasure")
    parser.add_argument("--servers", required=True, help="Kafka's addresses, as Flink reaches them")
    parser.add_argument("--registry", required=True, help="the URL of the schema registry")
    parser.add_argument("--bounded", action="store_true", help="end at the topics' present ends")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    given = parser.parse_args(arguments)
    options = dict(option.partition("=")[::2] for option in given.option)
    try:
        statements = [
            table_statement(
                name,
                servers=given.servers,
                registry=given.registry,
                prefix=ProducerSettings().topic_prefix,
                bounded=given.bounded,
                options=options,
            )
            for name in given.classes
        ]
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    given.out.write_text("\n".join(statements), encoding="utf-8")
    sys.stdout.write(f"{given.out}: {len(statements)} tables\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
