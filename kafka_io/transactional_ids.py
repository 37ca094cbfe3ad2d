"""Asks which transactional ids this client may write under, without opening a transaction.

Kafka has a question for it, but only for those with rights on the whole cluster. So a broker is
asked to end a transaction of a producer that does not exist: it judges the right first, and then
refuses. A running writer of the id notices nothing.
"""

import asyncio
from collections.abc import Iterable

from aiokafka.errors import KafkaError, TransactionalIdAuthorizationFailed
from aiokafka.protocol.transaction import EndTxnRequest

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.refusals import reason_of

_NOBODY = 2**63 - 1
"""The id of a producer that no cluster gets to: it counts them from 0."""
_ANSWER_S = 10.0


async def find_forbidden_ids(bootstrap_servers: str, ids: Iterable[str]) -> frozenset[str]:
    """Return the transactional ids under which this client may not write.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        ids: the ids.

    Raises:
        Unread: Kafka does not answer.
    """
    connected = client.plain(bootstrap_servers)
    try:
        async with asyncio.timeout(_ANSWER_S):
            await connected.bootstrap()
            answers = {
                name: await connected.send(
                    connected.get_random_node(),
                    EndTxnRequest(name, _NOBODY, 0, False),  # noqa: FBT003  # aborted, not committed
                )
                for name in ids
            }
    except (KafkaError, TimeoutError) as error:
        raise Unread(f"{bootstrap_servers} does not answer: {reason_of(error)}") from error
    finally:
        await connected.close()
    refused = TransactionalIdAuthorizationFailed.errno
    return frozenset(name for name, answer in answers.items() if answer.error_code == refused)
