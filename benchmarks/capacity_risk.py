"""Risk workers that are fed with returns, for the capacity's points."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Self

import psutil
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, Producer

from benchmarks.edge import pinned
from infra.topics import provision
from schemas.codec import decode, encode
from schemas.events import PortfolioState, Return, ReturnBatch
from schemas.topics import PARTITIONS, PORTFOLIO_RETURNS, RISK_MEASURES, RISK_STATE

_DAY_US = 86_400_000_000
_TOGETHER = 200
_WITHIN_S = 300.0
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast workers took returns, and at what cost."""

    per_s: float
    cpu_us: float


class RiskRun:
    """Topics of their own, workers, and a reader of their states."""

    def __init__(self, servers: str, portfolios: int) -> None:
        self._servers = servers
        self._prefix = f"c{next(_NUMBERS)}."
        provision(servers, prefix=self._prefix, warn=lambda _: None)
        self._random = random.Random(7)  # noqa: S311  # returns, not secrets
        self._day = 0
        self._accepted: dict[bytes, int] = {}
        self._sizes: dict[bytes, int] = {}
        self._total = self._expected = 0
        self._workers: list[psutil.Popen] = []
        everything = list(range(PARTITIONS))
        partitioner = DefaultPartitioner()
        self._names: list[list[str]] = [[] for _ in everything]
        for number in range(portfolios):
            name = f"portfolio-{number}"
            self._names[partitioner(name.encode(), everything, everything)].append(name)
        self._states = self._reader(RISK_STATE.name, "earliest")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._states.close()

    @property
    def state_bytes(self) -> int:
        """The size of the newest states, of all portfolios."""
        return sum(self._sizes.values())

    def start(self, workers: int) -> None:
        """Start workers, one on each core as far as there are cores."""
        cores = sorted(os.sched_getaffinity(0))
        for number in range(workers):
            env = {
                "KAFKA_BOOTSTRAP_SERVERS": self._servers,
                "TAPEWIRE_TOPIC_PREFIX": self._prefix,
                "TAPEWIRE_WORKER_ID": f"{self._prefix}{number}",
                "TAPEWIRE_RISK_METHODS": "historical",
            }
            with pinned(cores[-1 - number % len(cores)]):
                self._workers.append(
                    psutil.Popen(
                        [sys.executable, "-m", "stream_processors"],
                        env=os.environ | env,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                )

    def feed(self, days: int, returns: int | None = None) -> Speed:
        """Send returns of some days, and wait until all are in the states that workers write.

        Args:
            days: the returns of each portfolio, which follow each other in the messages.
            returns: as many as there are in all, with one of each portfolio a day; None for `days`
                of each portfolio.
        """
        messages = list(self._messages(days) if returns is None else self._by_day(returns))
        sent = sum(len(batch.returns) for _, batch in messages)
        encoded = [(partition, encode(batch)) for partition, batch in messages]
        self._expected += sent
        began_s, cpu_s = time.time(), self._cpu_s()
        self._publish(encoded)
        ended_s = self._until_accepted()
        return Speed(sent / (ended_s - began_s), (self._cpu_s() - cpu_s) * 1e6 / sent)

    def pss(self) -> int:
        """The memory of all workers, in bytes."""
        return sum(worker.memory_full_info().pss for worker in self._workers)

    def changelog_bytes(self, folder: Path) -> int:
        """The size of the states' topic in the broker's folder, without indexes."""
        pattern = f"{self._prefix}{RISK_STATE.name}-[0-9]*/*.log"
        return sum(path.stat().st_size for path in folder.rglob(pattern))

    def restart_s(self) -> float:
        """Kill a worker, start another, and return how long it takes to its next measure."""
        self._kill()
        measures = self._reader(RISK_MEASURES.name, "latest")
        while not measures.assignment():
            measures.poll(0.1)
        self._publish([(partition, encode(batch)) for partition, batch in self._by_day(PARTITIONS)])
        began_s = time.time()
        self.start(1)
        while time.time() < began_s + _WITHIN_S:
            record = measures.poll(0.1)
            if record is not None and not record.error():
                measures.close()
                return time.time() - began_s
        raise TimeoutError(f"no measure within {_WITHIN_S:g} s of a worker's start")

    def _kill(self) -> None:
        for worker in self._workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        self._workers.clear()

    def _cpu_s(self) -> float:
        times = [worker.cpu_times() for worker in self._workers]
        return sum(used.user + used.system for used in times)

    def _messages(self, days: int) -> Iterator[tuple[int, ReturnBatch]]:
        """Yield all days of one portfolio after those of another, so that states are few."""
        first, self._day = self._day, self._day + days
        for partition, names in enumerate(self._names):
            of_partition = (
                self._return_of(name, first + day) for name in names for day in range(days)
            )
            while batch := list(islice(of_partition, _TOGETHER)):
                yield partition, ReturnBatch(returns=batch)

    def _by_day(self, returns: int) -> Iterator[tuple[int, ReturnBatch]]:
        """Yield one return of each portfolio before the next day's, until there are so many."""
        left, everyone = returns, sum(map(len, self._names))
        while left > 0:
            of_day = min(left, everyone)
            for partition, names in enumerate(self._names):
                share = names[: -(-of_day * len(names) // everyone)][:left]
                left -= len(share)
                of_share = (self._return_of(name, self._day) for name in share)
                while batch := list(islice(of_share, _TOGETHER)):
                    yield partition, ReturnBatch(returns=batch)
            self._day += 1

    def _return_of(self, name: str, day: int) -> Return:
        return Return(name, day * _DAY_US, self._random.gauss(0, 0.01))

    def _publish(self, messages: list[tuple[int, bytes]]) -> None:
        producer = Producer({"bootstrap.servers": self._servers, "linger.ms": 5})
        for partition, value in messages:
            producer.produce(self._prefix + PORTFOLIO_RETURNS.name, value, partition=partition)
            producer.poll(0)
        producer.flush()

    def _until_accepted(self) -> float:
        """Wait until all returns are in states; return Kafka's time of the last, in seconds."""
        ended_s, deadline = time.time(), time.monotonic() + _WITHIN_S
        while self._total < self._expected:
            if time.monotonic() > deadline:
                missing = self._expected - self._total
                raise TimeoutError(f"{missing:,} returns are in no state after {_WITHIN_S:g} s")
            for record in self._states.consume(500, 0.2):
                key, value = record.key(), record.value()
                if record.error() or key is None or value is None:
                    continue
                state = decode(value)
                assert isinstance(state, PortfolioState)
                accepted = state.outcomes.get("accepted", 0)
                self._total += accepted - self._accepted.get(key, 0)
                self._accepted[key], self._sizes[key] = accepted, len(value)
                ended_s = record.timestamp()[1] / 1000
        return ended_s

    def _reader(self, topic: str, start: str) -> Consumer:
        reader = Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": f"{self._prefix}{topic}.capacity",
                "auto.offset.reset": start,
                "enable.auto.commit": False,
            }
        )
        reader.subscribe([self._prefix + topic])
        return reader
