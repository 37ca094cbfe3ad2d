"""`python -m stream_processors.downgrade`: let processors of 0.1.0 take over from newer ones.

Newer processors write transactions, so a partition of a state ends with a marker, which no reader
gets. Processors of 0.1.0 recover until they have read the last offset, and so would wait for ever.
This writes one row of each partition again, as it is, outside of a transaction. It also deletes the
positions that newer processors have saved: those of 0.1.0 will not move them, and newer ones that
follow would read from there again.

Stop the newer processors first. They must have written the schemas of 0.1.0, by
`TAPEWIRE_WRITE_AS_RELEASE`, all the time.
"""

import asyncio
import sys

from kafka_io.errors import InvalidSetting, ProducerError
from kafka_io.publisher import Publisher
from kafka_io.reader import read_rows
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from schemas.topics import PROCESSOR_POSITIONS
from stream_processors.errors import DowngradeRefused, WorkerError
from stream_processors.growths import partitions_of
from stream_processors.kafka_adapter import GROUP, positions_key, read_growths
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of

RELEASE = "0.1.0"


async def end_states_with_rows(settings: ProcessorSettings) -> int:
    """Write one row of each partition of each state again; return how many were written.

    Args:
        settings: those of the processors, with the release whose schemas they have written.

    Raises:
        DowngradeRefused: processors are running, or have written newer schemas.
        ProducerError, TimeoutError: Kafka does not answer; run it again.
    """
    servers, prefix = settings.bootstrap_servers, settings.topic_prefix
    if settings.write_as_release != RELEASE:
        raise DowngradeRefused(
            f"TAPEWIRE_WRITE_AS_RELEASE is {settings.write_as_release or 'unset'}; processors of "
            f"{RELEASE} can take over only where newer ones have run with {RELEASE}"
        )
    members = await asyncio.to_thread(TopicAdmin(servers).members_of, prefix + GROUP)
    if members:
        raise DowngradeRefused(
            f"processors are running: {', '.join(sorted(members))}; stop all of them, and run this "
            "again"
        )
    growths = await read_growths(servers, prefix)
    clients = ProducerSettings(
        bootstrap_servers=servers, topic_prefix=prefix, write_as_release=RELEASE
    )
    written = 0
    async with Publisher(clients) as publisher:
        for topic in (state for known in processors_of(settings) for state in known.states):
            name = prefix + topic.name
            for number in range(partitions_of(topic, growths.count)):
                rows = (await read_rows({name: topic}, number, clients))[name]
                for key, row in list(rows.items())[:1]:
                    await publisher.put(topic, key, row, number)
                    written += 1
        for number in range(growths.count):
            key = positions_key(GROUP, number)
            await publisher.put(PROCESSOR_POSITIONS, key, None, number)
    return written


def main() -> None:
    """Prepare the states; exit with an explanation if that cannot be done."""
    try:
        written = asyncio.run(end_states_with_rows(ProcessorSettings()))
    except (InvalidSetting, WorkerError, ProducerError, TimeoutError) as error:
        sys.exit(f"nothing is prepared: {error}")
    sys.stdout.write(f"{written} rows are written; start the processors of {RELEASE}\n")


if __name__ == "__main__":
    main()
