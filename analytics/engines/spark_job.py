"""A job for Spark Structured Streaming: a Delta or Iceberg table of each event class of a plan.

It runs in an environment with `requirements/engines-spark.lock` and Java 17 or 21, and imports
nothing of Tapewire: `analytics/engines/plan.py` writes the plan. Each value is read in the framing
and in the version of the schema that it has. A row is what the newest schema says, and where the
record is in the log. A record that cannot be decoded is a row, too, with its bytes in `_undecoded`.

Each table has a checkpoint of its own. Spark and the table's format together write each record
once, however often the job is killed: start it again with the same folder.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyspark.errors import (  # pyright: ignore[reportMissingImports]  # of its own environment
    StreamingQueryException,
)
from pyspark.sql import (  # pyright: ignore[reportMissingImports]  # as above
    SparkSession,
    functions as f,
)
from pyspark.sql.avro.functions import (  # pyright: ignore[reportMissingImports]  # as above
    from_avro,
)

PACKAGES = (
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.1.1",
    "org.apache.spark:spark-avro_2.13:4.1.1",
    "io.delta:delta-spark_4.1_2.13:4.4.0",
    "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0",
)
"""The jars that Spark downloads from Maven Central, for PySpark 4.1."""

_ICEBERG = "tapewire"
"""The name of the catalogue of Iceberg tables."""


def main() -> int:
    """Read all topics of the plan until their ends, or for ever, and print how many rows came."""
    given = _arguments()
    tables = json.loads(given.plan.read_text(encoding="utf-8"))["tables"]
    spark = _session(given)
    if given.format == "iceberg":
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {_ICEBERG}.events")
    began = time.monotonic()
    rows = 0
    if given.follow_s is None:
        # One after the other, so that memory is that of one table.
        for table in tables:
            rows += _run_to_end(spark, table, given)
    else:
        queries = [_start(spark, table, given) for table in tables]
        spark.streams.awaitAnyTermination()
        rows = sum(map(_rows_of, queries))
    took_s = time.monotonic() - began
    sys.stdout.write(json.dumps({"rows": rows, "seconds": round(took_s, 2)}) + "\n")
    spark.stop()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plan", type=Path, required=True, help="of analytics.engines.plan")
    parser.add_argument("--servers", required=True, help="Kafka's bootstrap servers")
    parser.add_argument("--lake", required=True, help="the folder or URL of tables and checkpoints")
    parser.add_argument("--format", choices=("delta", "iceberg"), default="delta")
    parser.add_argument("--follow-s", type=float, help="go on for ever, with a batch every N s")
    parser.add_argument("--batch", type=int, default=1_000_000, help="most records of a batch")
    parser.add_argument("--master", default="local[2]", help="Spark's master")
    parser.add_argument("--memory", default="1g", help="of the driver")
    parser.add_argument("--ivy", help="the folder of downloaded jars")
    parser.add_argument(
        "--kafka",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of Kafka's client, such as security.protocol=SSL",
    )
    return parser.parse_args()


def _session(given: argparse.Namespace) -> Any:
    builder = SparkSession.builder.appName("tapewire-lake").master(given.master)
    settings = {
        "spark.jars.packages": ",".join(PACKAGES),
        "spark.driver.memory": given.memory,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension,"
        "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Few events make small states of a table's log, which 50 tasks need not read.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.databricks.delta.schema.autoMerge.enabled": "true",
        f"spark.sql.catalog.{_ICEBERG}": "org.apache.iceberg.spark.SparkCatalog",
        f"spark.sql.catalog.{_ICEBERG}.type": "hadoop",
        f"spark.sql.catalog.{_ICEBERG}.warehouse": f"{given.lake}/iceberg",
    }
    if given.master.startswith("local"):
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
    if given.ivy is not None:
        settings["spark.jars.ivy"] = given.ivy
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _run_to_end(spark: Any, table: dict[str, Any], given: argparse.Namespace) -> int:
    """Read a topic until its end, and return how many records came."""
    query = _start(spark, table, given)
    try:
        query.awaitTermination()
    except StreamingQueryException as error:
        # After a kill, Spark can fail once when it has written the open batch (SPARK-55271).
        sys.stderr.write(f"{table['name']} is started again, since it failed: {error}\n")
        query = _start(spark, table, given)
        query.awaitTermination()
    return _rows_of(query)


def _start(spark: Any, table: dict[str, Any], given: argparse.Namespace) -> Any:
    name, folder = table["name"], f"{given.lake}/{given.format}/{table['name']}"
    writer = (
        _rows(_records(spark, table["topic"], given), table)
        .writeStream.queryName(name)
        .option("checkpointLocation", f"{given.lake}/checkpoints/{given.format}/{name}")
    )
    writer = (
        writer.trigger(availableNow=True)
        if given.follow_s is None
        else writer.trigger(processingTime=f"{given.follow_s} seconds")
    )
    if given.format == "delta":
        # `mergeSchema` adds the columns of a newer schema.
        writer = writer.format("delta").option("mergeSchema", "true").partitionBy("_day")
        return writer.start(folder)
    writer = writer.format("iceberg").option("fanout-enabled", "true").partitionBy("_day")
    return writer.toTable(f"{_ICEBERG}.events.{name}")


def _records(spark: Any, topic: str, given: argparse.Namespace) -> Any:
    reader = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", given.servers)
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .option("maxOffsetsPerTrigger", given.batch)
    )
    for setting in given.kafka:
        setting_name, _, value = setting.partition("=")
        reader = reader.option(f"kafka.{setting_name}", value)
    return reader.load()


def _rows(records: Any, table: dict[str, Any]) -> Any:
    """Return the rows of a class among a topic's records."""
    own, others = _heads(table["writers"]), _heads(table["others"])
    is_of_others = _begins_with(others)
    chosen = ~is_of_others if table["takes_rest"] else _begins_with(own)
    event: Any = None
    for writer in table["writers"]:
        for head in writer["heads"]:
            body = f.expr(f"substring(value, {len(head) // 2 + 1}, length(value))")
            decoded = from_avro(
                body,
                json.dumps(writer["schema"]),
                {"mode": "PERMISSIVE", "avroSchema": json.dumps(table["reader"])},
            )
            known = _begins_with([head])
            event = f.when(known, decoded) if event is None else event.when(known, decoded)
    fields = [f.col(f"event.{field['name']}") for field in table["reader"]["fields"]]
    # A malformed body gives a record of nulls, in which no real event's key is null.
    no_event = f.col("event").isNull() | f.expr(
        " AND ".join(f"event.`{field['name']}` IS NULL" for field in table["reader"]["fields"])
    )
    return (
        records.where(f.col("value").isNotNull() & chosen)
        .withColumn("event", event)
        .select(
            *fields,
            f.col("topic").alias("_topic"),
            f.col("partition").alias("_partition"),
            f.col("offset").alias("_offset"),
            f.col("timestamp").alias("_ingested_at"),
            f.expr("CAST(filter(headers, h -> h.key = 'tenant')[0].value AS STRING)").alias(
                "_tenant"
            ),
            f.when(no_event, f.col("value")).alias("_undecoded"),
            f.to_date("timestamp").alias("_day"),
        )
    )


def _heads(writers: Iterable[dict[str, Any]]) -> list[str]:
    return [head for writer in writers for head in writer["heads"]]


def _begins_with(heads: Iterable[str]) -> Any:
    found = f.expr("false")
    for head in heads:
        is_head = f.expr(f"hex(substring(value, 1, {len(head) // 2})) = '{head.upper()}'")
        found = found | is_head
    return found


def _rows_of(query: Any) -> int:
    return sum(progress["numInputRows"] for progress in query.recentProgress)


if __name__ == "__main__":
    sys.exit(main())
