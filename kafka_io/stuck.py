"""Find partitions that an open transaction holds back.

A reader of committed records gets nothing after the first record of a transaction that is still
open, neither that transaction's records nor those of anybody else. The records are in the log, and
come when the transaction ends, at the latest after its producer's timeout. Until then a reader sees
that the last stable offset stays where it is, below the end of the log.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer

logger = logging.getLogger(__name__)

LOGGED_FROM_S = 10.0
"""Shorter transactions are not logged; processors have many of some milliseconds."""
_LOGGED_EVERY_S = 60.0
_SHOWN_FROM_S = 1.0

Where = tuple[str, int]
"""A partition: the topic's full name, and the number."""


class FetchedEnds(NamedTuple):
    """The end offsets of a partition, as of its last fetch."""

    stable: int
    """Readers of committed records get the records before this offset."""
    high: int
    """The offset after the last record, committed or not."""
    at_s: float
    """When it was fetched."""


class _Stuck(NamedTuple):
    stable: int
    since_s: float
    until_s: float


class StuckPartitions:
    """The partitions whose last stable offset stays below their end, and for how long."""

    def __init__(self) -> None:
        self._stuck: dict[Where, _Stuck] = {}
        self._logged: set[Where] = set()
        self._logged_s = -_LOGGED_EVERY_S

    @property
    def ages_s(self) -> Mapping[Where, float]:
        """For how many seconds each partition has been held back; those that move are left out."""
        ages = {where: stuck.until_s - stuck.since_s for where, stuck in self._stuck.items()}
        return {where: age_s for where, age_s in ages.items() if age_s >= _SHOWN_FROM_S}

    def observe(self, consumer: AIOKafkaConsumer) -> None:
        """Look at all partitions that a consumer reads."""
        self.see((topic, number, ends) for topic, number, ends in ends_of(consumer))

    def see(self, found: Iterable[tuple[str, int, FetchedEnds]]) -> None:
        """Take the ends of all partitions that are read; forget those of other partitions."""
        stuck = {}
        for topic, number, ends in found:
            where = (topic, number)
            if ends.stable < ends.high:
                before = self._stuck.get(where)
                is_same = before is not None and before.stable == ends.stable
                since_s = before.since_s if before is not None and is_same else ends.at_s
                stuck[where] = _Stuck(ends.stable, since_s, ends.at_s)
            elif where in self._logged:
                self._logged.discard(where)
                logger.info("%s/%d goes on: the transaction has ended", topic, number)
        self._stuck = stuck
        self._logged &= stuck.keys()
        self._log()

    def _log(self) -> None:
        """Log the partitions that are held back for long; one line a minute for all of them."""
        long = {where: age_s for where, age_s in self.ages_s.items() if age_s >= LOGGED_FROM_S}
        if not long:
            return
        (topic, number), age_s = max(long.items(), key=lambda item: item[1])
        now_s = self._stuck[topic, number].until_s
        if now_s - self._logged_s < _LOGGED_EVERY_S:
            return
        self._logged_s = now_s
        self._logged |= long.keys()
        logger.warning(
            "%d partition(s) are held back by an open transaction of a producer, %s/%d for the "
            "longest time: %.0f s, from offset %d on. Records after it are read when it ends, at "
            "the latest by its transaction.timeout.ms; `kafka-transactions.sh find-hanging` and "
            "`abort` end one that does not",
            *(len(long), topic, number, age_s, self._stuck[topic, number].stable),
        )


def ends_of(consumer: AIOKafkaConsumer) -> Iterable[tuple[str, int, FetchedEnds]]:
    """Yield the topic, the number and the ends of each partition that was fetched."""
    for where in consumer.assignment():
        stable, high = consumer.last_stable_offset(where), consumer.highwater(where)
        at_ms = consumer.last_poll_timestamp(where)
        if stable is not None and high is not None and at_ms is not None:
            yield where.topic, where.partition, FetchedEnds(stable, high, at_ms / 1000)
