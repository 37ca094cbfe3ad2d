"""Tables of Apache Iceberg.

The summary of each snapshot has the next offset of every lane, in `tapewire.positions`. A commit
adds rows, changes the offsets and names the snapshot that it was built on. The catalogue refuses
it when the table has another one by then. So a writer reads the offsets, compares them with where
its spans begin, and commits upon that very snapshot.

pyiceberg would repeat a refused commit upon the newer snapshot, with the rows that another writer
has written meanwhile. The table's property `commit.retry.num-retries` forbids it, and a table
where it is not 0 is refused.

The catalogue is a database of SQLite beside the tables, or that of `TAPEWIRE_LAKE_CATALOG`.
"""

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyiceberg.expressions
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table, Transaction
from sqlalchemy.exc import DatabaseError, OperationalError

from analytics.sinks.address import Address
from analytics.sinks.base import Compacted, Lane, Snapshot, Span
from analytics.sinks.errors import (
    BrokenTable,
    ForeignTable,
    InvalidAddress,
    LakeUnavailable,
    Overtaken,
    UnknownTable,
)
from analytics.sinks.evolution import DAY, check_spans, conform, merged, plain, with_day
from analytics.sinks.settings import SinkSettings
from analytics.sinks.store import Store, iceberg_options, without_secrets

if TYPE_CHECKING:
    from collections.abc import Generator

NAMESPACE = "events"
"""The namespace of the tables in the catalogue."""
CATALOG_FILE = "catalog.db"
"""The file of the catalogue at a place on this machine."""

_POSITIONS = "tapewire.positions"
_RETRIES = "commit.retry.num-retries"
_PROPERTIES = {
    _RETRIES: "0",
    # Each commit writes a file of metadata. These are not needed after the next ones.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
}
_ATTEMPTS = 50
"""Most commits that others may make while this writer tries to make one of its own."""
_COMPACTIONS = 5
"""How often a day is written anew, where others commit at the same time."""
_COMPACT_BELOW_BYTES = 64 * 1024 * 1024
"""The size up to which a file is small."""

_T = TypeVar("_T")


def open_at(address: Address) -> "IcebergSink":
    """Return the sink of an address.

    Raises:
        InvalidAddress: a lake in a bucket has no catalogue.
    """
    store = Store(address)
    uri = SinkSettings().lake_catalog
    if uri is None and store.is_remote:
        raise InvalidAddress(
            "an Iceberg lake in a bucket needs a catalogue: set TAPEWIRE_LAKE_CATALOG to the "
            "address of a database, such as sqlite:////srv/lake.db, or of a REST catalogue"
        )
    return IcebergSink(store, None if uri is None else uri.get_secret_value())


class IcebergSink:
    """Writes tables of Iceberg into the folders of a place."""

    def __init__(self, store: Store, catalog_uri: str | None = None) -> None:
        self._store = store
        self._uri = catalog_uri
        self._catalog: Catalog | None = None

    def tables(self) -> Sequence[str]:
        """Return the names of all tables, sorted."""
        catalog = self._existing_catalog()
        if catalog is None:
            return []
        with self._reasons("the catalogue"):
            return sorted(name for _, name in catalog.list_tables(NAMESPACE))

    def positions(self, table: str) -> Mapping[Lane, int]:
        """Return the next offset of each lane of a table; none of a table that is not there yet."""
        state = self._find(table)
        return {} if state is None else _positions(state)

    def append(self, table: str, rows: pa.Table, spans: Sequence[Span]) -> None:
        """Append rows and advance lanes in one commit; see `Sink.append`."""
        check_spans(spans)
        rows = with_day(rows)

        def attempt() -> None:
            state = self._find(table) or self._create(table, rows.schema)
            positions = dict(_positions(state))
            for span in spans:
                if positions.get(span.lane, span.begin) != span.begin:
                    raise Overtaken(table, span.lane)
                positions[span.lane] = span.end
            columns = plain(state.schema().as_arrow())
            target = merged(table, columns, rows.schema)
            transaction = state.transaction()
            if target != columns:
                with transaction.update_schema() as update:
                    update.union_by_name(target)
            transaction.append(conform(rows, target), snapshot_properties=_summary(positions))
            self._commit(transaction)

        self._until_committed(table, attempt)

    def snapshot(self, table: str) -> Snapshot:
        """Return the current state of a table."""
        state = self._known(table)
        current = state.current_snapshot()
        version = None if current is None else current.snapshot_id
        return Snapshot(state.metadata_location, version, _positions(state))

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows of a table, in no order."""
        state = self._known(table)
        with self._reasons(table):
            rows = state.scan(selected_fields=tuple(columns or ("*",))).to_arrow()
        return rows.cast(plain(rows.schema))

    def files(self, table: str) -> Sequence[str]:
        """Return the paths or addresses of the files with the rows of a table."""
        state = self._known(table)
        with self._reasons(table):
            return sorted(task.file.file_path for task in state.scan().plan_files())

    def compact(self, table: str) -> Compacted:
        """Write the small files of each day as few, a day a commit.

        A commit is refused, and tried again some times, when another writer commits meanwhile.
        """
        before = after = count = 0
        for day in sorted(self._files(self._known(table)), key=str):
            for _ in range(_COMPACTIONS):
                state = self._known(table)
                files = self._files(state)[day]
                if files.small <= 1:
                    break
                try:
                    with self._reasons(table):
                        self._rewrite(state, day)
                except CommitFailedException:
                    continue
                before, count = before + files.count, count + files.rows
                after += self._files(self._known(table))[day].count
                break
        return Compacted(before, after, count)

    def erase(self, table: str, column: str, value: str) -> int:
        """Delete the rows with a value in a column of texts, and return how many.

        Their files stay until `expire` and `vacuum`, for states before this one.
        """

        def attempt() -> int:
            state = self._known(table)
            rows = state.scan(_equals(column, value)).count()
            if rows:
                transaction = state.transaction()
                transaction.delete(
                    _equals(column, value), snapshot_properties=_summary(_positions(state))
                )
                self._commit(transaction)
            return int(rows)

        return self._until_committed(table, attempt)

    def expire(self, table: str, older_than: timedelta) -> int:
        """Forget the snapshots before the current one that are older, and return how many."""
        before = datetime.now(UTC) - older_than

        def attempt() -> int:
            state = self._known(table)
            snapshots = len(state.snapshots())
            state.maintenance.expire_snapshots().older_than(before).commit()
            return snapshots - len(self._known(table).snapshots())

        return self._until_committed(table, attempt)

    def vacuum(self, table: str, older_than: timedelta) -> Sequence[str]:
        """Delete older files that no snapshot needs, and return their names.

        A file that a writer is about to commit is not in use either: `older_than` has to be longer
        than any commit takes.
        """
        before = (datetime.now(UTC) - older_than).timestamp()
        place = self._store.place_of(table)
        # Files are listed first, so that a commit in between only adds to those in use.
        found = self._store.files_below(place)
        state = self._known(table)
        with self._reasons(table):
            in_use = _files_in_use(state)
        unused = sorted(
            path for path, changed in found.items() if changed < before and path not in in_use
        )
        for path in unused:
            self._store.delete(path)
        return unused

    @staticmethod
    def _commit(transaction: Transaction) -> None:
        try:
            transaction.commit_transaction()
        except CommitStateUnknownException as error:
            raise LakeUnavailable(
                f"it is unknown whether the catalogue has the commit: {without_secrets(error)}"
            ) from None

    def _rewrite(self, state: Table, day: date | None) -> None:
        """Write the files of a day as new ones."""
        of_day = _equals(DAY, None if day is None else day.isoformat())
        rows = state.scan(of_day).to_arrow()
        transaction = state.transaction()
        transaction.overwrite(
            rows.cast(plain(rows.schema)),
            of_day,
            snapshot_properties=_summary(_positions(state)),
        )
        self._commit(transaction)

    def _create(self, table: str, columns: pa.Schema) -> Table:
        place = self._store.place_of(table)
        if found := self._store.content(place):
            raise ForeignTable(
                f"{place} holds {found[0]} and the catalogue has no table {table}; "
                "choose another place for the lake"
            )
        catalog = self._made_catalog()
        transaction = catalog.create_table_transaction(
            (NAMESPACE, table), plain(columns), location=place, properties=_PROPERTIES
        )
        with transaction.update_spec() as spec:
            spec.add_identity(DAY)
        transaction.commit_transaction()
        return self._known(table)

    def _known(self, table: str) -> Table:
        state = self._find(table)
        if state is None:
            raise UnknownTable(
                f"there is no table {table} in the catalogue of {self._store.root}; "
                f"there are {', '.join(self.tables()) or 'none'}"
            )
        return state

    def _find(self, table: str) -> Table | None:
        """Return the current state of a table, or None if there is none."""
        catalog = self._existing_catalog()
        if catalog is None:
            return None
        try:
            with self._reasons(table):
                state = catalog.load_table((NAMESPACE, table))
        except NoSuchTableError:
            return None
        if state.properties.get(_RETRIES) != "0":
            raise ForeignTable(
                f"the Iceberg table {table} of {self._store.root} has not {_RETRIES}=0, as "
                "tables that Tapewire makes have: two writers could write rows twice"
            )
        if state.current_snapshot() is not None and _written_positions(state) is None:
            raise ForeignTable(
                f"the Iceberg table {table} of {self._store.root} was written by another program: "
                f"no snapshot has {_POSITIONS}; choose another place for the lake"
            )
        return state

    def _existing_catalog(self) -> Catalog | None:
        """Return the catalogue, or None if it is a file that is not there yet."""
        if self._uri is None and not (Path(self._store.root) / CATALOG_FILE).exists():
            return None
        return self._made_catalog()

    def _made_catalog(self) -> Catalog:
        if self._catalog is None:
            uri = self._uri
            if uri is None:
                root = Path(self._store.root)
                root.mkdir(parents=True, exist_ok=True)
                uri = f"sqlite:///{root / CATALOG_FILE}"
            with self._reasons("the catalogue"):
                self._catalog = self._loaded(uri)
        return self._catalog

    def _loaded(self, uri: str) -> Catalog:
        """Return the catalogue at an address, with its database's tables and our namespace."""
        kind = "rest" if uri.startswith(("http://", "https://")) else "sql"
        for is_last in (False, False, False, True):
            try:
                catalog = load_catalog(
                    "tapewire",
                    type=kind,
                    uri=uri,
                    warehouse=self._store.root,
                    **(iceberg_options() if self._store.is_remote else {}),
                )
                catalog.create_namespace_if_not_exists(NAMESPACE)
            except DatabaseError:
                # Another writer may have made the same tables or rows of the database just now.
                if is_last:
                    raise
            else:
                return catalog
        raise AssertionError("the last attempt returns or raises")

    def _files(self, state: Table) -> "defaultdict[date | None, _Files]":
        """Return the files of each day."""
        found: defaultdict[date | None, _Files] = defaultdict(_Files)
        with self._reasons(state.name()[-1]):
            files = state.inspect.data_files()
        columns = files.select(["partition", "file_size_in_bytes", "record_count"])
        for row in columns.to_pylist():
            of_day = found[row["partition"][DAY]]
            of_day.count += 1
            of_day.small += row["file_size_in_bytes"] < _COMPACT_BELOW_BYTES
            of_day.rows += row["record_count"]
        return found

    def _until_committed(self, table: str, attempt: Callable[[], _T]) -> _T:
        for _ in range(_ATTEMPTS):
            try:
                with self._reasons(table):
                    return attempt()
            except (CommitFailedException, TableAlreadyExistsError):
                continue
        raise LakeUnavailable(
            f"other writers changed the table {table} {_ATTEMPTS} times, each time before this one"
        )

    @contextmanager
    def _reasons(self, table: str) -> "Generator[None]":
        """Raise errors of the libraries as those of lakes, and let refused commits pass."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"pyiceberg\..*")
                yield
        except (CommitFailedException, NoSuchTableError, TableAlreadyExistsError):
            raise
        except RESTError as error:
            raise LakeUnavailable(
                f"the catalogue of {self._store.root} refuses: {without_secrets(error)}"
            ) from None
        except OperationalError as error:
            raise LakeUnavailable(
                f"the catalogue of {self._store.root} fails: {without_secrets(error.orig)}"
            ) from None
        except FileNotFoundError as error:
            raise BrokenTable(
                f"a file of {table} at {self._store.root} is missing: {without_secrets(error)}"
            ) from None
        except OSError as error:
            raise LakeUnavailable(
                f"the store of {self._store.root} fails: {without_secrets(error)}"
            ) from None
        except (DatabaseError, ValidationError, ValueError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            raise BrokenTable(
                f"{table} at {self._store.root} cannot be used: {without_secrets(reason)}"
            ) from None


@dataclass
class _Files:
    """The files of a day: how many there are, how many of them are small, and their rows."""

    count: int = 0
    small: int = 0
    rows: int = 0


def _positions(state: Table) -> Mapping[Lane, int]:
    return _written_positions(state) or {}


def _written_positions(state: Table) -> Mapping[Lane, int] | None:
    """Return the offsets of the newest snapshot that has some; other programs write none."""
    snapshot = state.current_snapshot()
    while snapshot is not None:
        summary: Mapping[str, Any] = (
            {} if snapshot.summary is None else snapshot.summary.additional_properties
        )
        if (text := summary.get(_POSITIONS)) is not None:
            try:
                return {
                    Lane(topic, epoch, partition): offset
                    for topic, epoch, partition, offset in json.loads(text)
                }
            except (TypeError, ValueError):
                raise BrokenTable(
                    f"{_POSITIONS} of snapshot {snapshot.snapshot_id} of {state.name()[-1]} "
                    "is no list of lanes and offsets"
                ) from None
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else state.snapshot_by_id(parent)
    return None


def _equals(column: str, value: str | None) -> BooleanExpression:
    """Return the filter for rows with a value in a column; None is null."""
    expressions: Any = pyiceberg.expressions  # whose types hide the arguments
    found: BooleanExpression = (
        expressions.IsNull(column) if value is None else expressions.EqualTo(column, value)
    )
    return found


def _summary(positions: Mapping[Lane, int]) -> dict[str, str]:
    rows = [
        [lane.topic, lane.epoch, lane.partition, offset]
        for lane, offset in sorted(positions.items())
    ]
    return {_POSITIONS: json.dumps(rows)}


def _files_in_use(state: Table) -> set[str]:
    """Return the paths of all files that a snapshot of the table needs."""
    found = {state.metadata_location}
    found.update(entry.metadata_file for entry in state.metadata.metadata_log)
    manifests: set[str] = set()
    for snapshot in state.snapshots():
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(state.io):
            if manifest.manifest_path not in manifests:
                manifests.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(state.io, discard_deleted=True)
                found.update(entry.data_file.file_path for entry in entries)
    return {path.removeprefix("file://") for path in found | manifests}
