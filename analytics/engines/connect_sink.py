"""Writes the settings of Kafka Connect's Iceberg sink for event classes, and makes their tables.

    python -m analytics.engines.connect_sink RiskMeasure --lake /data/connect
        --registry http://localhost:8080/apis/registry/v2 --out build/connect

The connector reads Confluent framing, by the Avro converter of Apicurio Registry. The
transformation of `examples/15-kafka-connect` gives it rows. A table has the columns of Tapewire's
own sink, over all versions of the class, and is made here: the connector would make columns of its
own. Run it again for new versions of a schema: columns are added.

A field that holds values of several types has no column: the converter has another form of it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError

from analytics.columns import PLACE, arrow_type, has_union
from analytics.sinks.evolution import DAY
from analytics.table_names import table_name
from kafka_io.settings import ProducerSettings
from schemas.codec import versions
from schemas.topics import REGISTRY

CATALOG = "tapewire"
"""The name of the catalogue in its database, by which both programs find the tables."""
NAMESPACE = "events"
CATALOG_FILE = "catalog.db"
CONTROL_TOPIC = "connect.iceberg.control"
"""The topic by which the connector's tasks agree on commits; it has to be there."""

Settings = dict[str, str]


def columns_of(name: str) -> pa.Schema:
    """Return the columns of a class's table, without fields that hold values of several types."""
    found: dict[str, pa.Field] = {}
    for schema in versions(name):
        names: dict[str, Any] = {}
        for field in schema["fields"]:
            kind = arrow_type(field["type"], names)
            if not has_union(field["type"]):
                found[field["name"]] = pa.field(field["name"], kind)
    return pa.schema([*found.values(), *PLACE, pa.field(DAY, pa.date32())])


def connector(
    name: str,
    *,
    registry: str,
    lake: Path,
    prefix: str = "",
    epoch: str = "",
    commit_s: int = 60,
    tasks: int = 1,
) -> Settings:
    """Return the settings of the connector that writes the table of a class.

    Args:
        name: the class.
        registry: the URL of Apicurio's own API, version 2.
        lake: the folder of the tables and of their catalogue.
        prefix: the prefix of the topics' names.
        epoch: the topic's id, for the column `_epoch`.
        commit_s: the seconds between commits.
        tasks: how many tasks share the partitions.

    Raises:
        ValueError: no topic carries events of such a class.
    """
    table = table_name(_row(name).record)
    columns = columns_of(name)
    return {
        "name": f"tapewire-{table}",
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": str(tasks),
        "topics": f"{prefix}{_row(name).topic.name}",
        "consumer.override.isolation.level": "read_committed",
        "consumer.override.auto.offset.reset": "earliest",
        "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "header.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "value.converter": "io.apicurio.registry.utils.converter.AvroConverter",
        "value.converter.apicurio.registry.url": registry,
        # The id of four bytes is that of the content, which the API of Confluent gives, too.
        "value.converter.apicurio.registry.as-confluent": "true",
        "value.converter.apicurio.registry.use-id": "contentId",
        "transforms": "row",
        "transforms.row.type": "tapewire.EventRow",
        "transforms.row.record": f"{versions(name)[-1]['namespace']}.{name}",
        "transforms.row.times": ",".join(_times(columns)),
        "transforms.row.defaults": json.dumps(_later_defaults(name), separators=(",", ":")),
        "transforms.row.epoch": epoch,
        "iceberg.tables": f"{NAMESPACE}.{table}",
        "iceberg.control.topic": f"{prefix}{CONTROL_TOPIC}",
        "iceberg.control.commit.interval-ms": str(commit_s * 1_000),
        "iceberg.catalog": CATALOG,
        "iceberg.catalog.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "iceberg.catalog.uri": f"jdbc:sqlite:{lake / CATALOG_FILE}",
        "iceberg.catalog.warehouse": str(lake),
    }


def make_table(name: str, lake: Path) -> None:
    """Make the table of a class, or add the columns that it lacks.

    Raises:
        ValueError: no topic carries events of such a class.
    """
    table = table_name(_row(name).record)
    columns = columns_of(name)
    lake.mkdir(parents=True, exist_ok=True)
    catalog = open_catalog(lake)
    catalog.create_namespace_if_not_exists(NAMESPACE)
    try:
        state = catalog.load_table((NAMESPACE, table))
    except NoSuchTableError:
        made = catalog.create_table_transaction(
            (NAMESPACE, table), columns, location=str(lake / table)
        )
        with made.update_spec() as spec:
            spec.add_identity(DAY)
        made.commit_transaction()
    else:
        with state.update_schema() as update:
            update.union_by_name(columns)


def open_catalog(lake: Path) -> Catalog:
    """Return the catalogue of a folder of tables."""
    return load_catalog(
        CATALOG, type="sql", uri=f"sqlite:///{lake / CATALOG_FILE}", warehouse=str(lake)
    )


def _row(name: str) -> Any:
    known = {row.record.__name__: row for row in REGISTRY}
    if name not in known:
        raise ValueError(f"no topic carries {name}; they carry {', '.join(sorted(known))}")
    return known[name]


def _times(columns: pa.Schema) -> Iterator[str]:
    """Yield the paths of an event's fields that hold times."""
    for field in columns:
        if field.name not in PLACE.names:
            yield from _times_of(field.name, field.type)


def _times_of(path: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_timestamp(kind):
        yield path
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _times_of(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _times_of(path, kind.value_type)
    elif pa.types.is_map(kind):
        yield from _times_of(path, kind.item_type)


def _later_defaults(name: str) -> dict[str, Any]:
    """Return the values of fields that older versions lack, by path; the converter adds none."""
    found = [dict(_fields(schema, "", {})) for schema in versions(name)]
    always = set.intersection(*map(set, found))
    return {
        path: field["default"]
        for path, field in found[-1].items()
        if path not in always and field.get("default") is not None and not has_union(field["type"])
    }


def _fields(schema: Any, path: str, named: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a schema and of the records in it, by their paths."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _fields(branch, path, named)
    elif isinstance(schema, str):
        yield from _fields(named.get(schema, {"type": schema}), path, named)
    elif schema["type"] == "record":
        named[schema["name"]] = schema
        for field in schema["fields"]:
            inner = f"{path}.{field['name']}".lstrip(".")
            yield inner, field
            yield from _fields(field["type"], inner, named)
    elif schema["type"] in {"array", "map"}:
        yield from _fields(schema["items" if schema["type"] == "array" else "values"], path, named)


def properties(settings: Mapping[str, str]) -> str:
    """Return settings as a file of Java properties."""
    escaped = {name: value.replace("\\", "\\\\") for name, value in settings.items()}
    return "".join(f"{name}={value}\n" for name, value in escaped.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make tables and write a file of each connector; return 1 if there is no such class."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("classes", nargs="+", help="event classes, as in RiskMeasure")
    parser.add_argument("--registry", required=True, help="Apicurio's URL, with /apis/registry/v2")
    parser.add_argument("--lake", type=Path, required=True, help="the folder of the tables")
    parser.add_argument("--epoch", default="", help="the topic's id, for the column _epoch")
    parser.add_argument("--commit-s", type=int, default=60, help="the seconds between commits")
    parser.add_argument("--tasks", type=int, default=1, help="the tasks that share the partitions")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files to write")
    given = parser.parse_args(arguments)
    try:
        found = {
            name: connector(
                name,
                registry=given.registry,
                lake=given.lake.absolute(),
                prefix=ProducerSettings().topic_prefix,
                epoch=given.epoch,
                commit_s=given.commit_s,
                tasks=given.tasks,
            )
            for name in given.classes
        }
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    for name, settings in found.items():
        make_table(name, given.lake.absolute())
        path = given.out / f"{settings['name']}.properties"
        path.write_text(properties(settings), encoding="utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
