"""Counts of the alerts that clients have been sent, as the log of alerts has them."""

from collections.abc import Sequence

import pytest

from kafka_io.settings import ProducerSettings
from schemas.events import Record
from schemas.keys import encode_key
from schemas.topics import RISK_ALERTS, Topic
from stream_processors.sent_alerts import read_sent
from tests.support.alerts import raised_alert

SETTINGS = ProducerSettings()


async def test_transitions_are_counted_once_each_and_of_the_named_alerts_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Topic, bytes, str | None]] = []

    async def read_partition(
        topic: Topic, key: bytes, _: ProducerSettings, tenant: str | None
    ) -> Sequence[Record]:
        asked.append((topic, key, tenant))
        return [raised_alert("t"), raised_alert("t"), raised_alert("u")]

    monkeypatch.setattr("kafka_io.reader.read_partition", read_partition)
    alert = raised_alert("t")
    key, other = encode_key(alert.entity_id, "acme"), encode_key("other")
    sent = await read_sent({key: {alert.alert_id}, other: {alert.alert_id}}, SETTINGS)
    assert sent == {key: {alert.alert_id: 2}, other: {}}
    assert asked == [(RISK_ALERTS, key, "acme"), (RISK_ALERTS, other, "")]
    assert await read_sent({key: {"another"}}, SETTINGS) == {key: {}}
