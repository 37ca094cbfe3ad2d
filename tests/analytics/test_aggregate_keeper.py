"""A kept aggregate is equal to its query over all events, however the events arrive."""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import given, settings as examples, strategies as st

from analytics.aggregate_keeper import FOLDER, Keeper
from analytics.columns import event_classes, schema_of
from analytics.errors import InvalidLake
from analytics.sinks.base import Lane
from analytics.sql.aggregates import AGGREGATES, DAILY_RISK, Aggregate
from analytics.sql.database import quoted
from analytics.sql.lakes import LakeTable
from analytics.sql.settings import SqlSettings
from schemas.registry import REGISTRY

SMALL = SqlSettings(sql_memory_mib=128, sql_threads=1)
DAY = datetime(2008, 10, 10, tzinfo=UTC)
BASES = sorted({base for aggregate in AGGREGATES for base in aggregate.bases})
EPOCHS = ("e1", "e2")
PARTITIONS = (0, 1)

Row = dict[str, Any]


class FileLake:
    """A lake whose tables are files of Parquet, one for each time that rows were added."""

    is_remote = False
    extensions: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._positions: dict[str, dict[Lane, int]] = {}
        self._files = 0

    def add(self, base: str, rows: Sequence[Row]) -> None:
        """Add rows that follow those of their lanes."""
        schema = schema_of(event_classes()[base])
        self._files += 1
        path = Path(self.place, base, f"{self._files}.parquet")
        path.parent.mkdir(exist_ok=True)
        pa_parquet.write_table(pa.Table.from_pylist(list(rows), schema), path)
        lanes = self._positions.setdefault(base, {})
        for row in rows:
            lanes[lane_of(row)] = row["_offset"] + 1

    def find(self, name: str) -> LakeTable | None:
        if name not in self._positions:
            return None
        return LakeTable(
            f"read_parquet('{self.place}/{name}/*.parquet')", dict(self._positions[name])
        )


def lane_of(row: Row) -> Lane:
    return Lane(row["_topic"], row["_epoch"], row["_partition"])


@cache
def _reference() -> duckdb.DuckDBPyConnection:
    """Return a database that only compares, with an empty table of each class."""
    database = duckdb.connect(config={"threads": 1})
    for base in BASES:
        database.register("empty", schema_of(event_classes()[base]).empty_table())
        database.execute(f"CREATE TABLE empty_{base} AS FROM empty")
    return database


def batch(lake: FileLake, aggregate: Aggregate) -> list[tuple[Any, ...]]:
    """Return an aggregate's rows by its query over all events."""
    with _reference().cursor() as database:
        relations = {}
        for base in aggregate.bases:
            held = lake.find(base)
            rows = "" if held is None else f" UNION ALL BY NAME SELECT * FROM {held.relation}"
            relations[base] = f"(SELECT * FROM empty_{base}{rows})"
        return database.execute(
            f"SELECT * FROM ({aggregate.batch_query(relations)}) ORDER BY ALL"
        ).fetchall()


def kept(keeper: Keeper, aggregate: Aggregate) -> list[tuple[Any, ...]]:
    with _reference().cursor() as database:
        path = quoted(keeper.path_of(aggregate.name))
        return database.execute(f"SELECT * FROM read_parquet({path}) ORDER BY ALL").fetchall()


def topic_of(base: str) -> str:
    return REGISTRY.find(event_classes()[base]).topic.name


moments = st.integers(0, 3 * 24).map(lambda hours: DAY + timedelta(hours=hours))
names = st.sampled_from(["p", "q"])
numbers = st.one_of(st.none(), st.sampled_from([0.01, 0.02, 0.03, 0.05]))
TESTS = [{"confidence": 0.95, "observations": 250, "exceptions": 12}]

EVENTS: Mapping[str, st.SearchStrategy[Row]] = {
    "risk_measure": st.fixed_dictionaries(
        {
            "portfolio_id": names,
            "as_of_us": moments,
            "status": st.just("ok"),
            "var_95": numbers,
            "utilisation": numbers,
            "supersedes": st.sampled_from([None, "m-1"]),
            "model_backtests": st.sampled_from([[], TESTS]),
        }
    ),
    "book_risk": st.fixed_dictionaries(
        {"root": names, "book_id": names, "as_of_us": moments, "var_95": numbers}
    ),
    "risk_alert": st.fixed_dictionaries(
        {
            "alert_id": st.sampled_from(["a", "b"]),
            "transition_id": st.sampled_from(["t1", "t2", "t3", "t4"]),
            "state": st.sampled_from(["raised", "escalated", "acknowledged", "cleared"]),
            "severity": st.sampled_from(["medium", "high", "critical"]),
            "utilisation": numbers,
            "entity_type": st.sampled_from(["portfolio", "book"]),
            "entity_id": names,
            "event_time_us": moments,
        }
    ),
    "training_progress": st.fixed_dictionaries(
        {
            "task_id": names,
            "status": st.sampled_from(["started", "running", "completed", "failed"]),
            "progress": st.sampled_from([0.0, 50.0, 100.0]),
            "event_time_us": moments,
            "task": st.sampled_from([None, {"stage": "PENDING", "attempt": 2}]),
        }
    ),
    "training_command": st.fixed_dictionaries({"task_id": names, "event_time_us": moments}),
    "backtest_progress": st.fixed_dictionaries(
        {
            "backtest_id": names,
            "status": st.sampled_from(["running", "completed"]),
            "progress": st.sampled_from([10.0, 100.0]),
            "event_time_us": moments,
            "job": st.sampled_from([None, {"kind": "submitted"}, {"kind": "cancelled"}]),
        }
    ),
    "backtest_command": st.fixed_dictionaries({"job_id": names, "event_time_us": moments}),
}


@st.composite
def logs(draw: st.DrawFn) -> list[list[tuple[str, list[Row]]]]:
    """Draw a log of all tables, divided into the batches in which a sink takes it."""
    offsets: dict[tuple[str, str, int], int] = {}
    batches = []
    for _ in range(draw(st.integers(1, 4))):
        tables = []
        for base in draw(st.lists(st.sampled_from(BASES), min_size=1, max_size=3, unique=True)):
            rows = []
            for event in draw(st.lists(EVENTS[base], min_size=1, max_size=6)):
                epoch = draw(st.sampled_from(EPOCHS))
                partition = draw(st.sampled_from(PARTITIONS))
                offset = offsets.get((base, epoch, partition), 0) + draw(st.integers(0, 1))
                offsets[base, epoch, partition] = offset + 1
                rows.append(
                    event
                    | {
                        "_topic": topic_of(base),
                        "_epoch": epoch,
                        "_partition": partition,
                        "_offset": offset,
                        "_ingested_at": DAY + timedelta(seconds=draw(st.integers(0, 5))),
                        "_tenant": draw(st.sampled_from([None, "acme"])),
                    }
                )
            tables.append((base, rows))
        batches.append(tables)
    return batches


Batches = list[list[tuple[str, list[Row]]]]


@examples(max_examples=6)
@given(logs(), st.sets(st.integers(0, 3)))
def test_any_division_of_the_log_gives_the_batch_querys_rows(
    batches: Batches, skipped: set[int]
) -> None:
    check_division(batches, skipped)


@pytest.mark.analytics
@pytest.mark.timeout(1200)
@examples(max_examples=150)
@given(logs(), st.sets(st.integers(0, 3)))
def test_many_divisions_of_the_log_give_the_batch_querys_rows(
    batches: Batches, skipped: set[int]
) -> None:
    check_division(batches, skipped)


def check_division(batches: Batches, skipped: set[int]) -> None:
    """Let a keeper take a log in batches, without a step at some, and compare each step."""
    with tempfile.TemporaryDirectory() as folder:
        lake = FileLake(Path(folder))
        with Keeper(lake, SMALL) as keeper:
            for number, tables in enumerate(batches):
                for base, rows in tables:
                    lake.add(base, rows)
                if number in skipped and number + 1 < len(batches):
                    continue
                keeper.step()
                for aggregate in AGGREGATES:
                    if any(lake.find(base) for base in aggregate.bases):
                        assert kept(keeper, aggregate) == batch(lake, aggregate)
            assert keeper.step() == []


def measure(hour: int, var_95: float, offset: int, **more: Any) -> Row:
    return {
        "portfolio_id": "p",
        "as_of_us": DAY + timedelta(hours=hour),
        "status": "ok",
        "var_95": var_95,
        "_topic": "risk.measures",
        "_epoch": "e1",
        "_partition": 0,
        "_offset": offset,
        "_ingested_at": DAY + timedelta(seconds=offset),
    } | more


def day_of(keeper: Keeper) -> dict[str, Any]:
    with _reference().cursor() as database:
        (row,) = (
            database.execute(f"FROM read_parquet({quoted(keeper.path_of('daily_risk'))})")
            .to_arrow_table()
            .to_pylist()
        )
        return dict(row)


def test_a_day_opens_and_closes_by_the_times_of_its_measures(tmp_path: Path) -> None:
    lake = FileLake(tmp_path)
    with Keeper(lake, SMALL, [DAILY_RISK]) as keeper:
        lake.add("risk_measure", [measure(10, 0.03, 0), measure(12, 0.05, 1, utilisation=1.25)])
        assert keeper.step() == [("daily_risk", 1, 1)]
        lake.add("risk_measure", [measure(9, 0.02, 2), measure(15, 0.04, 3)])  # one comes late
        lake.add("risk_measure", [measure(12, 0.01, 4, supersedes="m")])  # and one is corrected
        keeper.step()
        row = day_of(keeper)
        names = ("open", "high", "low", "close")
        assert [row[f"var_95_{name}"] for name in names] == [0.02, 0.04, 0.01, 0.04]
        assert (row["measures"], row["corrections"]) == (4, 1)
        assert (row["utilisation_high"], row["var_99_close"]) == (None, None)


def test_a_step_that_dies_leaves_the_former_file_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = FileLake(tmp_path)
    with Keeper(lake, SMALL, [DAILY_RISK]) as keeper:
        lake.add("risk_measure", [measure(10, 0.03, 0)])
        keeper.step()
        lake.add("risk_measure", [measure(11, 0.04, 1)])

        def die(*_: object) -> None:
            raise OSError("the power is off")

        with monkeypatch.context() as patched:
            patched.setattr("analytics.aggregate_keeper._settle", die)
            with pytest.raises(OSError, match="power"):
                keeper.step()
        assert day_of(keeper)["measures"] == 1
        assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["daily_risk.parquet"]
        keeper.step()
        assert kept(keeper, DAILY_RISK) == batch(lake, DAILY_RISK)


def test_a_file_that_a_late_keeper_put_back_is_brought_up_to_date(tmp_path: Path) -> None:
    lake = FileLake(tmp_path)
    with Keeper(lake, SMALL, [DAILY_RISK]) as keeper:
        lake.add("risk_measure", [measure(10, 0.03, 0)])
        keeper.step()
        path = Path(keeper.path_of("daily_risk"))
        older = path.read_bytes()
        lake.add("risk_measure", [measure(10, 0.04, 1), measure(40, 0.05, 2)])
        keeper.step()
        path.write_bytes(older)
        keeper.step()
        assert kept(keeper, DAILY_RISK) == batch(lake, DAILY_RISK)


def test_rows_that_were_erased_vanish_when_all_is_computed_again(tmp_path: Path) -> None:
    lake = FileLake(tmp_path)
    with Keeper(lake, SMALL, [DAILY_RISK]) as keeper:
        lake.add("risk_measure", [measure(10, 0.03, 0, _tenant="acme")])
        lake.add("risk_measure", [measure(10, 0.05, 1)])
        keeper.step()
        (tmp_path / "risk_measure" / "1.parquet").unlink()
        assert keeper.step() == []
        assert keeper.step(rebuild=True) == [("daily_risk", 1, 1)]
        assert day_of(keeper)["_tenant"] is None


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    lake = FileLake(tmp_path)
    lake.add("risk_measure", [measure(10, 0.03, 0)])
    with Keeper(lake, SMALL, [DAILY_RISK]) as keeper:
        path = Path(keeper.path_of("daily_risk"))
        path.parent.mkdir()
        path.write_text("no Parquet at all")
        with pytest.raises(InvalidLake, match=r"daily_risk\.parquet is no Parquet file: .*delete"):
            keeper.step()
