"""`tapewire topics rekey`: gives the records of tenants the keys that name them."""

import asyncio
from collections.abc import Callable

from cli.errors import RekeyFailed
from infra.topics import wait_for_kafka
from kafka_io.errors import ProducerError
from stream_processors.errors import RekeyRefused
from stream_processors.rekey import rekey as rekey_topics
from stream_processors.settings import ProcessorSettings

_KAFKA_S = 5.0


async def rekey(settings: ProcessorSettings, say: Callable[[str], None]) -> None:
    """Move what earlier releases have written of tenants to keys that name them.

    Args:
        settings: those of the processors.
        say: prints a line.

    Raises:
        RekeyFailed: the keys cannot be changed, or Kafka became unavailable.
        InfraError: Kafka is unavailable.
    """
    await asyncio.to_thread(wait_for_kafka, settings.bootstrap_servers, within_s=_KAFKA_S)
    try:
        await rekey_topics(settings, say)
    except RekeyRefused as error:
        raise RekeyFailed(str(error)) from error
    except (ProducerError, TimeoutError) as error:
        raise RekeyFailed(
            f"{error!r}; start no processors, and run `tapewire topics rekey` again"
        ) from error
