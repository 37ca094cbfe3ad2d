"""Tables of Delta Lake.

Each lane is an application of Delta's transactions: its id is `tapewire/TOPIC/EPOCH/PARTITION`, and
its version the offset of the next record. Rows and versions stand in one commit. Delta refuses a
commit when another commit since the state that it was built on has moved one of its applications.
So a writer reads the versions, compares them with where its spans begin, and commits upon that
very state.

Delta knows no list of applications. The table's property `tapewire.lanes` has it; it is written
before a lane's first rows, and marks the table as one of ours.

A refused commit leaves its files behind. No commit names them, so no reader of Delta reads them,
and `vacuum` deletes them.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from analytics.sinks.address import Address
from analytics.sinks.base import Compacted, Lane, Snapshot, Span
from analytics.sinks.errors import (
    BrokenTable,
    ForeignTable,
    LakeUnavailable,
    Overtaken,
    UnknownTable,
)
from analytics.sinks.evolution import DAY, check_spans, conform, merged, plain, with_day
from analytics.sinks.store import Store, delta_options, without_secrets

_LANES = "tapewire.lanes"
_LOG_RETENTION = "delta.logRetentionDuration"
_ATTEMPTS = 50
"""Most commits that others may make while this writer tries to make one of its own."""
_COMPACT_BELOW_BYTES = 64 * 1024 * 1024
"""The size up to which a file is small."""

_COMPACTIONS = 3
"""How often a day is written anew, where others change it at the same time."""

_T = TypeVar("_T")


@dataclass
class _Files:
    """The files of a day: how many there are, how many of them are small, and their rows."""

    count: int = 0
    small: int = 0
    rows: int = 0


def open_at(address: Address) -> "DeltaSink":
    """Return the sink of an address."""
    return DeltaSink(Store(address))


class DeltaSink:
    """Writes a table of Delta in each folder of a place."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._options = delta_options() if store.is_remote else {}
        self._opened: dict[str, DeltaTable] = {}

    def tables(self) -> Sequence[str]:
        """Return the names of all tables, sorted."""
        return [
            name
            for name in self._store.folders()
            if "_delta_log" in self._store.content(self._store.place_of(name))
        ]

    def positions(self, table: str) -> Mapping[Lane, int]:
        """Return the next offset of each lane of a table; none of a table that is not there yet."""
        state = self._find(table)
        return {} if state is None else _positions(state)

    def append(self, table: str, rows: pa.Table, spans: Sequence[Span]) -> None:
        """Append rows and advance lanes in one commit; see `Sink.append`."""
        check_spans(spans)
        rows = with_day(rows)
        lanes = [span.lane for span in spans]

        def attempt() -> None:
            state = self._with_lanes(table, rows.schema, lanes)
            before = _positions(state)
            for span in spans:
                if before.get(span.lane, span.begin) != span.begin:
                    raise Overtaken(table, span.lane)
            self._commit(table, state, rows, spans)

        self._until_committed(table, attempt)

    def snapshot(self, table: str) -> Snapshot:
        """Return the current state of a table."""
        state = self._known(table)
        return Snapshot(self._store.place_of(table), state.version(), _positions(state))

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows of a table, in no order."""
        state = self._known(table)
        try:
            rows = pa.table(state.scan(columns=None if columns is None else list(columns)))
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._failed(table, error) from None
        return rows.cast(plain(rows.schema))

    def files(self, table: str) -> Sequence[str]:
        """Return the paths or addresses of the files with the rows of a table."""
        return sorted(self._known(table).file_uris())

    def compact(self, table: str) -> Compacted:
        """Write the small files of each day as one, a day a commit.

        A day whose files others change at the same time is left as it is.
        """
        before = after = count = 0
        for day in sorted(_files(self._known(table)), key=str):
            for _ in range(_COMPACTIONS):
                state = self._known(table)
                files = _files(state)[day]
                if files.small <= 1:
                    break
                try:
                    self._rewrite(state, day)
                except CommitFailedError:
                    continue
                except (DeltaError, OSError) as error:
                    raise self._failed(table, error) from None
                before, count = before + files.count, count + files.rows
                after += _files(self._known(table))[day].count
                break
        return Compacted(before, after, count)

    def erase(self, table: str, column: str, value: str) -> int:
        """Delete the rows with a value in a column of texts, and return how many.

        Their files stay until `vacuum`, for states before this one.
        """
        text = value.replace("'", "''")

        def attempt() -> int:
            done = self._known(table).delete(f"{column} = '{text}'")
            return int(done.get("num_deleted_rows") or 0)

        return self._until_committed(table, attempt)

    def expire(self, table: str, older_than: timedelta) -> int:
        """Forget the versions before the current one that are older, and return how many."""
        retention = f"interval {max(int(older_than.total_seconds()), 0)} seconds"

        def attempt() -> int:
            state = self._known(table)
            versions = len(state.history())
            if state.metadata().configuration.get(_LOG_RETENTION) != retention:
                state.alter.set_table_properties({_LOG_RETENTION: retention})
                versions += 1
            state.create_checkpoint()
            state.cleanup_metadata()
            return max(versions - len(self._known(table).history()), 0)

        return self._until_committed(table, attempt)

    def vacuum(self, table: str, older_than: timedelta) -> Sequence[str]:
        """Delete files that were replaced or refused longer ago, and return their names.

        Versions that had replaced files can no longer be read. A file that a writer is about to
        commit is not in use either: `older_than` has to be longer than any commit takes.
        """
        hours = int(older_than.total_seconds() // 3600)

        def attempt() -> list[str]:
            state = self._known(table)
            return state.vacuum(
                retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True
            )

        return self._until_committed(table, attempt)

    @staticmethod
    def _rewrite(state: DeltaTable, day: str | None) -> None:
        """Write the files of a day as new ones.

        The optimize of deltalake 1.6 does not see that another has replaced the files meanwhile:
        two at once write each row twice. An overwrite is refused then.
        """
        predicate = f"{DAY} IS NULL" if day is None else f"{DAY} = DATE '{day}'"
        reader = pa.RecordBatchReader.from_stream(state.scan(predicate=predicate))
        rows = reader.cast(plain(reader.schema))
        write_deltalake(state, rows, mode="overwrite", predicate=predicate)

    def _commit(self, table: str, state: DeltaTable, rows: pa.Table, spans: Sequence[Span]) -> None:
        """Write rows upon a state of the table."""
        columns = pa.schema(state.schema().to_arrow())
        target = merged(table, columns, rows.schema)
        transactions = [Transaction(_app_id(span.lane), span.end) for span in spans]
        # Without new columns, the commit does not change the schema, and others need not wait.
        is_wider = target != plain(columns)
        write_deltalake(
            state,
            conform(rows, target),
            mode="append",
            schema_mode="merge" if is_wider else None,
            commit_properties=CommitProperties(app_transactions=transactions),
        )

    def _with_lanes(self, table: str, columns: pa.Schema, lanes: Sequence[Lane]) -> DeltaTable:
        """Return a table whose list of lanes has some; it is made if it is not there."""
        state = self._find(table)
        if state is None:
            self._create(table, columns, lanes)
            state = self._known(table)
        known = _lanes(state)
        if set(lanes) <= set(known):
            return state
        state.alter.set_table_properties(
            {_LANES: _listed({*known, *lanes})}, raise_if_not_exists=False
        )
        return self._known(table)

    def _create(self, table: str, columns: pa.Schema, lanes: Sequence[Lane]) -> None:
        try:
            DeltaTable.create(
                self._store.place_of(table),
                Schema.from_arrow(plain(columns)),
                partition_by=[DAY],
                configuration={_LANES: _listed(lanes)},
                raise_if_key_not_exists=False,
                storage_options=self._options,
            )
        except DeltaError:
            # Another writer may have been faster.
            if self._find(table) is None:
                raise

    def _known(self, table: str) -> DeltaTable:
        state = self._find(table)
        if state is None:
            raise UnknownTable(
                f"there is no table {table} at {self._store.root}; "
                f"there are {', '.join(self.tables()) or 'none'}"
            )
        return state

    def _find(self, table: str) -> DeltaTable | None:
        """Return the current state of a table, or None if there is none."""
        try:
            state = self._opened.get(table)
            if state is None:
                state = DeltaTable(self._store.place_of(table), storage_options=self._options)
            else:
                state.update_incremental()
        except TableNotFoundError:
            self._opened.pop(table, None)
            self._check_empty(table)
            return None
        except (DeltaError, OSError) as error:
            self._opened.pop(table, None)
            raise self._failed(table, error) from None
        if _LANES not in state.metadata().configuration:
            raise ForeignTable(
                f"the Delta table {table} at {self._store.root} was made by another program: it "
                f"has no property {_LANES}; choose another place for the lake"
            )
        self._opened[table] = state
        return state

    def _check_empty(self, table: str) -> None:
        found = self._store.content(self._store.place_of(table))
        if found and "_delta_log" not in found:
            raise ForeignTable(
                f"{self._store.place_of(table)} holds {found[0]} and no Delta table; "
                "choose another place for the lake"
            )

    def _until_committed(self, table: str, attempt: Callable[[], _T]) -> _T:
        for _ in range(_ATTEMPTS):
            try:
                return attempt()
            except CommitFailedError:
                self._opened.pop(table, None)
            except (DeltaError, OSError) as error:
                self._opened.pop(table, None)
                raise self._failed(table, error) from None
        raise LakeUnavailable(
            f"other writers changed the table {table} {_ATTEMPTS} times, each time before this one"
        )

    def _failed(self, table: str, error: Exception) -> LakeUnavailable | BrokenTable:
        text = without_secrets(error)
        place = self._store.place_of(table)
        if isinstance(error, OSError) or "Generic S3 error" in text:
            return LakeUnavailable(f"the store of {place} fails: {text}")
        return BrokenTable(f"the Delta table at {place} cannot be used: {text}")


def _app_id(lane: Lane) -> str:
    return f"tapewire/{lane.topic}/{lane.epoch}/{lane.partition}"


def _positions(state: DeltaTable) -> dict[Lane, int]:
    found = {lane: state.transaction_version(_app_id(lane)) for lane in _lanes(state)}
    return {lane: offset for lane, offset in found.items() if offset is not None}


def _lanes(state: DeltaTable) -> list[Lane]:
    """Return the lanes of a table.

    Raises:
        BrokenTable: the table's property does not hold a list of lanes.
    """
    text = state.metadata().configuration[_LANES]
    try:
        return [Lane(topic, epoch, partition) for topic, epoch, partition in json.loads(text)]
    except (TypeError, ValueError):
        raise BrokenTable(
            f"the property {_LANES} of the table at {state.table_uri} is no list of lanes"
        ) from None


def _listed(lanes: "Sequence[Lane] | set[Lane]") -> str:
    return json.dumps([[lane.topic, lane.epoch, lane.partition] for lane in sorted(lanes)])


def _files(state: DeltaTable) -> "defaultdict[str | None, _Files]":
    """Return the files of each day."""
    found: defaultdict[str | None, _Files] = defaultdict(_Files)
    actions = pa.table(state.get_add_actions(flatten=True))
    for row in actions.select([f"partition.{DAY}", "size_bytes", "num_records"]).to_pylist():
        day = row[f"partition.{DAY}"]
        files = found[None if day is None else str(day)]
        files.count += 1
        files.small += row["size_bytes"] < _COMPACT_BELOW_BYTES
        files.rows += row["num_records"] or 0
    return found
