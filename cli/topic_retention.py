"""`tapewire topics retention`: shows and changes for how long topics keep their records.

`tapewire up` and `tapewire topics create` never change a topic that exists, so what is set here
stays. A topic of rows, which keeps the newest record of each key for ever, has no such time.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from cli.answers import Answer
from cli.errors import InvalidArgument, LogFailed
from kafka_io.clock import now_us
from kafka_io.errors import ProducerError
from kafka_io.operators import operator
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import HISTORIES, INPUTS
from schemas.events import OperatorAction, OperatorActionKind
from schemas.topics import CATALOGUE, DAY_MS, FOR_EVER_MS, HOUR_MS, Topic

_MINUTE_MS = 60 * 1000
_UNITS_MS = {"m": _MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION = re.compile(r"([0-9]{1,6})([mhd])")
_FOR_EVER = "for-ever"
_DEFAULT = "default"


class Change(NamedTuple):
    """A change of a topic's retention."""

    topic: Topic
    name: str
    """The topic's full name."""
    before_ms: int
    """-1 for ever, as below."""
    after_ms: int

    @property
    def is_shorter(self) -> bool:
        """Whether Kafka deletes records earlier than before."""
        if self.after_ms == FOR_EVER_MS:
            return False
        return self.before_ms == FOR_EVER_MS or self.after_ms < self.before_ms

    @property
    def question(self) -> str:
        """The question before a shorter retention."""
        lost = ""
        if self.topic.name in HISTORIES:
            lost = " A rebuild will know no more than the log then."
        elif self.topic.name in INPUTS:
            lost = " Processors that are away for longer lose records."
        return (
            f"{self.name} will keep records for {text_of(self.after_ms)} instead of "
            f"{text_of(self.before_ms)}: Kafka deletes older ones of all tenants for good.{lost} "
            "Go on?"
        )


def parse_duration(text: str, topic: Topic) -> int:
    """Return a duration in milliseconds; -1 for ever.

    Args:
        text: `30m`, `12h`, `90d`, `for-ever`, or `default` for that of the catalogue.
        topic: the topic.

    Raises:
        InvalidArgument: the text is none of them, or the topic keeps rows for ever.
    """
    if topic.retention_ms is None:
        raise InvalidArgument(
            f"{topic.name} keeps the newest record of each key for ever, since states and lists "
            "follow from them; `tapewire tenant erase` deletes those of a tenant"
        )
    if text == _DEFAULT:
        return topic.retention_ms
    if text == _FOR_EVER:
        return FOR_EVER_MS
    found = _DURATION.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise InvalidArgument(
            f"{text!r} is no time to keep records; write 30m, 12h, 90d, {_FOR_EVER} or {_DEFAULT}"
        )
    return int(found[1]) * _UNITS_MS[found[2]]


def text_of(retention_ms: int) -> str:
    """Return a retention as `parse_duration` reads it, rounded down to minutes."""
    if retention_ms == FOR_EVER_MS:
        return _FOR_EVER
    for unit, unit_ms in reversed(_UNITS_MS.items()):
        if retention_ms % unit_ms == 0 and retention_ms:
            return f"{retention_ms // unit_ms}{unit}"
    return f"{retention_ms // _MINUTE_MS}m"


def list_retention(settings: ProducerSettings) -> Answer:
    """Return for how long each topic keeps records, and for how long the catalogue says.

    Raises:
        LogFailed: Kafka does not answer, or an ACL is missing.
    """
    prefix = settings.topic_prefix
    try:
        found = TopicAdmin(settings.bootstrap_servers).found(
            [prefix + topic.name for topic in CATALOGUE]
        )
    except ProducerError as error:
        raise LogFailed(str(error)) from error
    rows = [
        row_of(topic, prefix + topic.name, found[prefix + topic.name].config)
        for topic in CATALOGUE
        if prefix + topic.name in found
    ]
    return Answer(rows, [_line(row) for row in rows])


def row_of(topic: Topic, name: str, config: Mapping[str, str]) -> dict[str, Any]:
    """Return the row of a topic. Pure.

    Args:
        topic: the topic.
        name: its full name.
        config: its settings in Kafka.
    """
    kept_ms = _kept_ms(topic, config)
    return {
        "topic": name,
        "keeps": "rows" if topic.retention_ms is None else "records",
        "retention": None if kept_ms is None else text_of(kept_ms),
        "default": None if topic.retention_ms is None else text_of(topic.retention_ms),
        "newest_of_each_key": topic.is_compacted,
    }


def find_change(settings: ProducerSettings, topic: Topic, text: str) -> Change:
    """Return the change that a command asks for; see `parse_duration`.

    Raises:
        InvalidArgument: the text is no duration, or the topic keeps rows for ever.
        LogFailed: there is no such topic, Kafka does not answer, or an ACL is missing.
    """
    after_ms, name = parse_duration(text, topic), settings.topic_prefix + topic.name
    try:
        found = TopicAdmin(settings.bootstrap_servers).found([name])
    except ProducerError as error:
        raise LogFailed(str(error)) from error
    if name not in found:
        raise LogFailed(f"there is no topic {name}; `tapewire topics create` makes it")
    before_ms = _kept_ms(topic, found[name].config)
    return Change(topic, name, FOR_EVER_MS if before_ms is None else before_ms, after_ms)


async def change_retention(settings: ProducerSettings, change: Change) -> Answer:
    """Write who changes the retention of a topic, and change it.

    Raises:
        LogFailed: Kafka refused it, or does not answer.
    """
    action = OperatorAction(
        action=OperatorActionKind.CHANGE_RETENTION,
        subject=change.topic.name,
        comment=f"from {text_of(change.before_ms)} to {text_of(change.after_ms)}",
        event_time_us=now_us(),
    )
    admin = TopicAdmin(settings.bootstrap_servers)
    try:
        async with Publisher(settings) as publisher:
            await publisher.publish(action, partition=0, origin=operator())
        kept = {"retention.ms": str(change.after_ms)}
        await asyncio.to_thread(admin.change_settings, change.name, kept)
        config = (await asyncio.to_thread(admin.found, [change.name]))[change.name].config
    except (ProducerError, TimeoutError) as error:
        raise LogFailed(str(error) or "Kafka has not answered in time") from error
    row = row_of(change.topic, change.name, config)
    return Answer(row, [_line(row)])


def _kept_ms(topic: Topic, config: Mapping[str, str]) -> int | None:
    """Return for how long a topic keeps records; -1 for ever, None for one of rows."""
    if topic.retention_ms is None:
        return None
    return int(config.get("retention.ms", topic.retention_ms))


def _line(row: Mapping[str, Any]) -> str:
    if row["retention"] is None:
        return f"{row['topic']:<30} the newest record of each key"
    other = "" if row["retention"] == row["default"] else f"; by default {row['default']}"
    newest = ", and of each key only the newest" if row["newest_of_each_key"] else ""
    return f"{row['topic']:<30} {row['retention']}{newest}{other}"
