"""Counts alerts in a file, by DuckDB, which reads Parquet in place.

tapewire export alerts -o alerts.parquet
.venv/bin/python examples/14-tables/with_duckdb.py alerts.parquet
"""

import sys

import duckdb


def main(path: str) -> None:
    """Print how many alerts each entity raised, and the highest utilisation of its limits."""
    rows = duckdb.execute(
        """
        SELECT entity_id, count(DISTINCT alert_id) AS alerts, max(utilisation) AS utilisation
        FROM read_parquet($path) WHERE state = 'raised'
        GROUP BY entity_id ORDER BY alerts DESC, entity_id
        """,
        {"path": path},
    )
    for entity_id, count, utilisation in rows.fetchall():
        print(f"{entity_id}: {count} alerts, at most {utilisation or 0:.2f} of the limit")


if __name__ == "__main__":
    main(sys.argv[1])
