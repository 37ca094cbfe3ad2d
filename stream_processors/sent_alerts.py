"""Reads how many transitions of alerts clients have had.

The log of alerts says that. A rebuilt alert that is not open at present may have been open before:
the numbers of its transitions go on from those that were sent.
"""

from collections import Counter
from collections.abc import Mapping, Set as AbstractSet

from kafka_io import reader
from kafka_io.settings import ProducerSettings
from schemas.events import RiskAlert
from schemas.keys import decode_key
from schemas.topics import RISK_ALERTS


async def read_sent(
    unknown: Mapping[bytes, AbstractSet[str]], settings: ProducerSettings
) -> Mapping[bytes, Mapping[str, int]]:
    """Return how many transitions of alerts clients have had, by entity and by alert.

    Args:
        unknown: the ids of alerts, by the key of their portfolio or book.
        settings: where Kafka is.

    Raises:
        Unread, TimeoutError: Kafka does not answer.
    """
    sent = {}
    for key, alert_ids in unknown.items():
        entity_id, tenant = decode_key(key)
        alerts = await reader.read_partition(RISK_ALERTS, key, settings, tenant or "")
        steps = {
            (alert.alert_id, alert.transition_id)
            for alert in alerts
            if isinstance(alert, RiskAlert)
            and alert.entity_id == entity_id
            and alert.alert_id in alert_ids
        }
        sent[key] = Counter(alert_id for alert_id, _ in steps)
    return sent
