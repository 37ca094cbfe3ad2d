"""Measures how long alerts waited for a person, by polars, which reads a file lazily.

tapewire export alerts -o alerts.parquet
.venv/bin/python examples/14-tables/with_polars.py alerts.parquet
"""

import sys

import polars as pl


def main(path: str) -> None:
    """Print the time between an alert and its acknowledgement, by the log's clock."""

    def first_time(state: str) -> pl.Expr:
        return pl.col("_ingested_at").filter(pl.col("state") == state).min()

    waits = (
        pl.scan_parquet(path)
        .group_by("alert_id")
        .agg(
            pl.col("entity_id").first(),
            wait=first_time("acknowledged") - first_time("raised"),
        )
        .drop_nulls("wait")
        .sort("wait", "alert_id", descending=[True, False])
        .collect()
    )
    for alert_id, entity_id, wait in waits.iter_rows():
        print(f"{alert_id} of {entity_id}: {wait.total_seconds():g} s")


if __name__ == "__main__":
    main(sys.argv[1])
