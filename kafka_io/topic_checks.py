"""Compare topics as somebody has made them with the catalogue, and say how to mend them. Pure.

A topic that a broker made by itself, or an operator by hand, may delete rows that must stay,
compact events, bear the times of its producers, or have too few partitions. Where results would be
lost or wrong by a difference, nothing starts; the others are logged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.codec import VALUE_BYTES_MAX
from schemas.topics import (
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    DAY_MS,
    HOUR_MS,
    MARKET_FORMING,
    MARKET_TRADES,
    NOTIFICATION_QUEUES,
    NOTIFICATION_REQUESTS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_SERIES,
    RISK_STATE,
    RISK_WANTED,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    Topic,
)

INPUTS = frozenset(
    topic.name
    for topic in (
        BACKTEST_EVENTS,
        DASHBOARD_TALLIES,
        MARKET_TRADES,
        NOTIFICATION_REQUESTS,
        PORTFOLIO_RETURNS,
        RISK_ACKS,
        RISK_ALERTS,
        RISK_BOOKS,
        RISK_LIMITS,
        RISK_REBUILDS,
        RISK_SCENARIOS,
        RISK_SERIES,
        RISK_WANTED,
        TRAINING_EVENTS,
    )
)
"""The topics that processors read; windows, staleness and bounds go by the log's time of them."""
STATES = frozenset(
    topic.name
    for topic in (
        BACKTEST_JOBS,
        DASHBOARD_BOARDS,
        MARKET_FORMING,
        NOTIFICATION_QUEUES,
        PROCESSOR_POSITIONS,
        RISK_BOOK_STATE,
        RISK_STATE,
        TRAINING_TASKS,
    )
)
"""The states of processors, partitioned as their inputs are."""

HISTORIES = frozenset(
    topic.name
    for topic in (
        PORTFOLIO_RETURNS,
        RISK_ACKS,
        RISK_BOOKS,
        RISK_LIMITS,
        RISK_SCENARIOS,
        RISK_SERIES,
    )
)
"""The topics from which a rebuild computes measures and alerts again, from their beginnings."""

_POLICY, _RETENTION = "cleanup.policy", "retention.ms"
_TIMES, _LARGEST = "message.timestamp.type", "max.message.bytes"
_FOR_EVER = -1


class FoundTopic(NamedTuple):
    """A topic as Kafka has it."""

    partitions: int
    config: Mapping[str, str]
    """Its settings, those of the broker included; empty where Kafka does not tell them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A topic that is not as the catalogue has it."""

    name: str
    """Its full name."""
    text: str
    """The present setting, the required one, and the consequence of the difference."""
    command: str
    """The command that mends it."""
    is_harmful: bool
    """Whether results would be lost or wrong, so that nothing starts."""

    def __str__(self) -> str:
        return f"{self.name} {self.text}; this mends it:\n  {self.command}"


def find_differences(
    bootstrap_servers: str,
    expected: Mapping[str, tuple[Topic, int]],
    found: Mapping[str, FoundTopic],
) -> list[Difference]:
    """Return where topics differ from the catalogue; one that does not exist does not differ.

    Args:
        bootstrap_servers: Kafka's addresses, for the commands.
        expected: the topics by full name, each with the fewest partitions that it needs.
        found: the topics by full name, as Kafka has them.
    """
    differences: list[Difference] = []
    for name, (topic, partitions) in expected.items():
        if name in found:
            to_kafka = f"--bootstrap-server {bootstrap_servers} --alter"
            differences += _of_partitions(to_kafka, name, topic, partitions, found[name].partitions)
            differences += _of_settings(to_kafka, name, topic, found[name].config)
    return differences


def _of_partitions(
    to_kafka: str, name: str, topic: Topic, expected: int, found: int
) -> Iterable[Difference]:
    if found >= expected:
        return
    is_harmful = topic.name in INPUTS | STATES
    yield Difference(
        name,
        f"has {_counted(found)}, and needs {expected}"
        + (
            ": records and the states that follow from them would be in partitions that do not "
            "belong together. Records that it holds already stay where they are: add partitions "
            "only to a topic that is empty, and else move its records to a new one"
            if is_harmful
            else ", so that readers can share it"
        ),
        f"kafka-topics.sh {to_kafka} --topic {name} --partitions {expected}",
        is_harmful,
    )


def _of_settings(
    to_kafka: str, name: str, topic: Topic, found: Mapping[str, str]
) -> Iterable[Difference]:
    def difference(setting: str, consequence: str, *, is_harmful: bool) -> Difference:
        value = str(VALUE_BYTES_MAX + _ROOM_BYTES) if setting == _LARGEST else config[setting]
        shown = f"[{value}]" if "," in value else value
        return Difference(
            name,
            f"has {setting}={found[setting]}, and needs {value}: {consequence}",
            f"kafka-configs.sh {to_kafka} --entity-type topics --entity-name {name} "
            f"--add-config {setting}={shown}",
            is_harmful,
        )

    config = topic.config()
    policy, policies = _policies(config), _policies(found)
    if policy == {"compact"} and "delete" in policies:
        text = f"rows that are not written again within {_age(found)} would be lost"
        yield difference(_POLICY, text, is_harmful=True)
    elif topic.name in HISTORIES and "compact" in policies:
        # As earlier releases made the topic of limits; measures and alerts are right all the same.
        text = "a rebuild would know only the newest record of each key"
        yield difference(_POLICY, text, is_harmful=False)
    elif policy == {"delete"} and "compact" in policies:
        text = "only the last event of each key would stay"
        yield difference(_POLICY, text, is_harmful=True)
    elif policies and policy != policies:
        has_it = "it never forgets" if "delete" not in policies else "its readers start slowly"
        yield difference(_POLICY, has_it, is_harmful=False)
    if topic.name in HISTORIES and _is_shorter(found, config):
        text = f"a rebuild would not know what was written more than {_age(found)} before"
        yield difference(_RETENTION, text, is_harmful=False)
    elif "delete" in policy and _is_shorter(found, config):
        text = f"clients that are away for more than {_age(found)} get a gap"
        yield difference(_RETENTION, text, is_harmful=False)
    if found.get(_TIMES) == "CreateTime" and topic.name not in STATES:
        is_read = topic.name in INPUTS
        text = (
            "windows, staleness and bounds of times go by when Kafka appended a record"
            if is_read
            else "`from=TIME` goes by the clocks of producers"
        )
        yield difference(_TIMES, text, is_harmful=is_read)
    if int(found.get(_LARGEST, VALUE_BYTES_MAX)) < VALUE_BYTES_MAX:
        text = "Kafka refuses larger records, so their writers stop or wait"
        yield difference(_LARGEST, text, is_harmful=False)


_ROOM_BYTES = 4096
"""Bytes for the key and the headers of a record."""


def _policies(config: Mapping[str, str]) -> set[str]:
    return set(filter(None, config.get(_POLICY, "").replace(" ", "").split(",")))


def _is_shorter(found: Mapping[str, str], expected: Mapping[str, str]) -> bool:
    kept, needed = int(found.get(_RETENTION, _FOR_EVER)), int(expected[_RETENTION])
    return kept != _FOR_EVER and (needed == _FOR_EVER or kept < needed)


def _age(config: Mapping[str, str]) -> str:
    """Return a retention time for people."""
    kept_ms = int(config.get(_RETENTION, 0))
    return f"{kept_ms / DAY_MS:.3g} days" if kept_ms > DAY_MS else f"{kept_ms / HOUR_MS:.3g} hours"


def _counted(partitions: int) -> str:
    return f"{partitions} partition{'' if partitions == 1 else 's'}"
