"""`tapewire lake run`: writes the tables of a lake from the log."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress

from cli.answers import Answer
from cli.table_libraries import tables_or_reason
from kafka_io.part_metrics import serve_metrics
from kafka_io.settings import MetricsSettings, ProducerSettings


def run_lake(
    address: str,
    tables: Sequence[str],
    kafka: ProducerSettings,
    *,
    once: bool,
    aggregates: bool = False,
) -> Answer:
    """Write tables until SIGTERM or SIGINT, or until the end of the log.

    Args:
        address: the lake's address.
        tables: the names of tables, classes or topics; none for all.
        kafka: where Kafka is.
        once: whether to end when all is written that the log has now.
        aggregates: whether the aggregates are kept up to date with the tables.

    Returns:
        The rows that were written, by table.

    Raises:
        NotInstalled: the extra `lake` is not installed.
        AnalyticsFailed: the lake cannot be written, or there is no such table.
        LogFailed: Kafka cannot be read.
        InvalidSetting: a setting is not allowed.
    """
    with tables_or_reason():
        from analytics.aggregate_keeper import open_keeper  # noqa: PLC0415  # it needs an extra
        from analytics.lake_counts import LakeCounts  # noqa: PLC0415  # as above
        from analytics.lake_rounds import LakeRounds  # noqa: PLC0415  # as above
        from analytics.lake_settings import LakeSettings  # noqa: PLC0415  # as above
        from analytics.lake_writer import LakeWriter, choose_tables  # noqa: PLC0415  # as above
        from analytics.log_rows import KafkaLog  # noqa: PLC0415  # as above
        from analytics.sinks.address import open_sink  # noqa: PLC0415  # as above

        topics = choose_tables(tables)
        counts = LakeCounts()
        writer = LakeWriter(open_sink(address), counts, kafka.ahead_s * 1e6)
        serve_metrics(MetricsSettings(), counts.families)
        with open_keeper(address) if aggregates else nullcontext() as keeper:
            rounds = LakeRounds(KafkaLog(kafka), writer, topics, counts, LakeSettings(), keeper)
            asyncio.run(_run(rounds.run(once=once), rounds.stop))
    written = {name: rows for name, rows in sorted(counts.rows.items()) if rows}
    missing = f"; {counts.gaps} offsets were missing, see the table log_gap" if counts.gaps else ""
    return Answer(
        lines=[
            *(f"{name}: {rows} rows" for name, rows in written.items()),
            f"{counts.rows.total()} rows were written to {address}{missing}",
        ],
        document={"address": address, "rows": written, "missing_offsets": counts.gaps},
    )


async def _run(work: Coroutine[None, None, None], stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows has no such handlers
            loop.add_signal_handler(number, stop)
    await work
