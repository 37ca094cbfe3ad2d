"""`tapewire topics grow`: gives the topics of portfolios more partitions."""

import asyncio
from collections.abc import Callable

from cli.errors import GrowthFailed
from infra.topics import wait_for_kafka
from kafka_io.errors import ProducerError
from stream_processors.errors import GrowthRefused, WorkerError
from stream_processors.grow import grow as grow_topics
from stream_processors.settings import ProcessorSettings

_KAFKA_S = 5.0


async def grow(
    settings: ProcessorSettings, count: int, settle_s: float, say: Callable[[str], None]
) -> None:
    """Grow the topics of portfolios, and move the states of portfolios.

    Args:
        settings: those of the processors.
        count: the partitions that each topic will have.
        settle_s: how long producers may take to know the new partitions.
        say: prints a line.

    Raises:
        GrowthFailed: the topics cannot grow as asked, or Kafka became unavailable.
        InfraError: Kafka is unavailable.
    """
    await asyncio.to_thread(wait_for_kafka, settings.bootstrap_servers, within_s=_KAFKA_S)
    try:
        await grow_topics(settings, count, settle_s=settle_s, say=say)
    except GrowthRefused as error:
        raise GrowthFailed(str(error)) from error
    except (ProducerError, WorkerError, TimeoutError) as error:
        raise GrowthFailed(
            f"{error!r}; start no processors, and run `tapewire topics grow {count}` again"
        ) from error
