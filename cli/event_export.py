"""`tapewire export`: writes the events of an interval of the log as a file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cli.table_libraries import tables_or_reason
from kafka_io.settings import ProducerSettings
from schemas.topics import Topic

Say = Callable[[str], None]


async def write_events(
    name: str,
    kafka: ProducerSettings,
    interval_ms: tuple[int | None, int | None],
    file: tuple[str, Path | None],
    tenant: str | None,
    say: Say,
) -> None:
    """Write events as a file, and say how many.

    Args:
        name: a table, a class of events, a topic or a channel.
        kafka: where Kafka is.
        interval_ms: the first time, and the first that is left out, in milliseconds since 1970 UTC.
        file: the form of the file, and its path; None for the standard output.
        tenant: whose events are written; empty for those of no tenant, None for all.
        say: prints a line beside the output.

    Raises:
        NotInstalled: the extra `lake` is not installed.
        AnalyticsFailed: there is no such table, or the file cannot be written.
        LogFailed: Kafka cannot be read.
    """
    with tables_or_reason():
        # Only this command needs the libraries.
        from analytics.export import export_rows  # noqa: PLC0415  # see above
        from analytics.log_rows import Interval, KafkaLog  # noqa: PLC0415  # see above
        from analytics.names import find_table  # noqa: PLC0415  # see above
        from analytics.table_files import Format  # noqa: PLC0415  # see above

        form, path = file
        table = find_table(name, channel_topics())
        found = await export_rows(
            KafkaLog(kafka),
            table,
            Interval(*interval_ms),
            form=Format(form),
            path=path,
            tenant=tenant,
        )
    where = "" if path is None else f" in {path}"
    refused = f"; refused records, which are no rows: {found.refused}" if found.refused else ""
    say(f"rows of {table.name}{where}: {found.rows}{refused}")


def channel_topics() -> Mapping[str, Topic]:
    """Return the topics of the edge's channels, by name; none where no edge is installed."""
    try:
        from sse_edge.streams.channels import CHANNELS  # noqa: PLC0415  # it is of an extra
    except ModuleNotFoundError:
        return {}
    return {channel.name: channel.topic for channel in CHANNELS.values()}
