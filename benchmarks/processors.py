"""`make bench-processors`: compare the risk worker with plain Faust, a bare loop and Kafka Streams.

Each worker is a process bound to one core. Its progress is read from the state that it writes, with
Kafka's timestamps. README.md in this folder explains the figures.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Self

import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Producer

from benchmarks import kafka_streams
from benchmarks.broker import running_kafka
from infra.supervisor import Part, Process
from infra.topics import provision
from schemas.codec import decode, encode
from schemas.events import PortfolioState, Return, ReturnBatch
from schemas.topics import PARTITIONS, PORTFOLIO_RETURNS, RISK_ALERTS, RISK_MEASURES, RISK_STATE

_PORTFOLIOS = 1_000
_WINDOW = 250
_RETURNS = 200_000
_PLAIN_RETURNS = 20_000
_TOGETHER = 200
"""Returns in a message, as `ReturnsPublisher` sends what is there at once."""
_ROUNDS = 3
_ALERTS = 100
_LOAD_PER_S = 20_000
_LOAD_TOGETHER = 50
"""Returns in a message of the load beside alerts."""
_DAY_US = 86_400_000_000
_LIMIT = "0.0168"
"""Near what VaR is, so that there are alerts."""

_PLAIN = (sys.executable, "-m", "benchmarks.plain_faust")
_BARE = (sys.executable, "-m", "benchmarks.bare_loop")
_CLOSED = "historical,normal,student_t,cornish_fisher,ewma"


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of workers, and what it costs."""

    per_s: float
    cpu_us: float
    """CPU time of all threads for each return."""
    memory_mib: float
    """The peak memory, summed over the workers."""


class Bench:
    """Runs workers and measures them."""

    def __init__(self, servers: str, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._numbers = count(1)
        self._cores = sorted(psutil.Process().cpu_affinity())

    async def speed(self, case: "Case", returns: int) -> Speed:
        """Measure how fast the workers of a case process returns, one worker on each core.

        The time is from the sending of the first return, by Kafka's client in another thread, to
        the writing of the last return's state.

        Args:
            case: what runs.
            returns: the number of returns.
        """
        before = _PORTFOLIOS * _WINDOW if case.is_warm else 0
        total = before + returns
        async with (
            self._topics() as prefix,
            self._workers(case, prefix) as ran,
            case.progress(self._servers, prefix) as progress,
        ):
            messages = await asyncio.to_thread(_messages, range(total), case.together, before)
            await asyncio.to_thread(_publish, self._servers, prefix, messages[0])
            await progress.until(before)
            began_s, cpu_s = time.time(), _cpu_s(ran)
            sending = asyncio.to_thread(_publish, self._servers, prefix, messages[1])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sending)
                ended_ms = await progress.until(total)
            used_us = (_cpu_s(ran) - cpu_s) * 1e6 / returns
            memory = sum(map(_peak_mib, ran))
        return Speed(returns / (ended_ms / 1000 - began_s), used_us, memory)

    async def restart_s(self) -> float:
        """Return the time from a worker's start with 1,000 portfolios to its next measure."""
        total = _PORTFOLIOS * _WINDOW
        before, after = _messages(range(total + _PORTFOLIOS), _TOGETHER, total)
        async with self._topics() as prefix:
            async with (
                self._workers(WORKER, prefix) as (first,),
                _Progress(self._servers, prefix) as progress,
            ):
                await asyncio.to_thread(_publish, self._servers, prefix, before)
                await progress.until(total)
                first.send_signal(signal.SIGKILL)
                await first.ended()
            await asyncio.to_thread(_publish, self._servers, prefix, after)
            began_ms = time.time() * 1000
            async with self._workers(WORKER, prefix):
                return (await _next_measure_ms(self._servers, prefix, began_ms) - began_ms) / 1000

    async def alert_ms(self, alerts: int, beside_per_s: int = 0) -> list[float]:
        """Return how long after their returns alerts are read, in milliseconds, sorted.

        The time is from Kafka's append of a return until a reader of committed records has the
        alert, so it includes the transaction. Each return is of another portfolio, and far below
        the VaR of the portfolio's window, so that it raises an alert.

        Args:
            alerts: the number of alerts, which are raised one after the other.
            beside_per_s: the returns of other portfolios that arrive meanwhile, each second.
        """
        async with (
            self._topics() as prefix,
            self._workers(WORKER, prefix, TAPEWIRE_VAR_LIMIT="0.1"),
            _Progress(self._servers, prefix) as progress,
            _reader(self._servers, prefix + RISK_ALERTS.name) as consumer,
            _reader(self._servers, prefix + PORTFOLIO_RETURNS.name) as sent,
            _ReadTimes(consumer) as raised,
        ):
            days = 100
            total = _PORTFOLIOS * days
            calm = chain(*_messages(range(total), _TOGETHER, total))
            await asyncio.to_thread(_publish, self._servers, prefix, tuple(calm))
            await progress.until(total)
            async with _load(self._servers, prefix, days, beside_per_s):
                return sorted(
                    [
                        await self._alert_ms(prefix, portfolio, days, sent, raised)
                        for portfolio in range(alerts)
                    ]
                )

    async def _alert_ms(
        self,
        prefix: str,
        portfolio: int,
        days: int,
        sent: AIOKafkaConsumer,
        raised: "_ReadTimes",
    ) -> float:
        name = f"portfolio-{portfolio}"
        crash = [Return(name, (days + day) * _DAY_US, -0.5) for day in range(days // 10)]
        message = _home(portfolio), encode(ReturnBatch(returns=crash))
        began_ms = time.time() * 1000
        await asyncio.to_thread(_publish, self._servers, prefix, [message])
        read_ms = await raised.first_since(began_ms, name.encode())
        while (record := await sent.getone()).value != message[1]:
            pass
        return read_ms - float(record.timestamp)

    @asynccontextmanager
    async def _topics(self) -> AsyncGenerator[str]:
        prefix = f"b{next(self._numbers)}."
        await asyncio.to_thread(provision, self._servers, prefix=prefix)
        yield prefix

    @asynccontextmanager
    async def _workers(
        self, case: "Case", prefix: str, **env: str
    ) -> AsyncGenerator[list[Process]]:
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "TAPEWIRE_TOPIC_PREFIX": prefix,
            "TAPEWIRE_VAR_LIMIT": _LIMIT,
            "TAPEWIRE_RISK_METHODS": case.methods,
            "APP_DATADIR": str(self._folder),  # plain Faust would take the present one
        }
        running = []
        async with AsyncExitStack() as stack:
            for number in range(case.workers):
                name = f"{prefix}{number}"
                own = {"TAPEWIRE_WORKER_ID": name}
                part = case.part(name, self._folder, common | own | env)
                process = Process(part, self._folder / f"{name}.log")
                await process.start()
                stack.push_async_callback(process.stop)
                for thread in psutil.Process(process.pid).threads():
                    os.sched_setaffinity(thread.id, {self._cores[-1 - number]})
                running.append(process)
            yield running


Message = tuple[int, bytes]
"""A partition, and a batch of returns."""


def _messages(numbers: range, together: int, before: int) -> tuple[list[Message], list[Message]]:
    """Return batches of returns by portfolio and day: those before a number, and the others.

    Args:
        numbers: the numbers of the returns.
        together: the returns in a batch, from the number on; before, there are many.
        before: the number.
    """
    values = np.random.default_rng(7).normal(0, 0.01, numbers.stop)
    homes = [_home(portfolio) for portfolio in range(_PORTFOLIOS)]
    found: tuple[list[Message], list[Message]] = [], []
    waiting: list[list[Return]] = [[] for _ in range(PARTITIONS)]
    for number in numbers:
        into = found[number >= before]
        if number == before:
            found[0].extend(_left(waiting))
        day, portfolio = divmod(number, _PORTFOLIOS)
        batch = waiting[homes[portfolio]]
        batch.append(Return(f"portfolio-{portfolio}", day * _DAY_US, float(values[number])))
        if len(batch) == (_TOGETHER if number < before else together):
            into.append((homes[portfolio], encode(ReturnBatch(returns=batch))))
            batch.clear()
    found[1].extend(_left(waiting))
    return found


def _left(waiting: list[list[Return]]) -> list[Message]:
    left = [
        (home, encode(ReturnBatch(returns=batch))) for home, batch in enumerate(waiting) if batch
    ]
    for batch in waiting:
        batch.clear()
    return left


def _publish(servers: str, prefix: str, messages: Sequence[Message]) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    topic = prefix + PORTFOLIO_RETURNS.name
    for partition, value in messages:
        producer.produce(topic, value, partition=partition)
        producer.poll(0)
    producer.flush()


@asynccontextmanager
async def _load(servers: str, prefix: str, day: int, per_s: int) -> AsyncGenerator[None]:
    """Send calm returns of the portfolios without alerts, so many a second, from a day on."""
    stop = threading.Event()

    def send() -> None:
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        random = np.random.default_rng(8)
        homes = [(_home(number), f"portfolio-{number}") for number in range(_ALERTS, _PORTFOLIOS)]
        began_s = time.monotonic()
        for number in count():
            partition = number % PARTITIONS
            names = [name for home, name in homes if home == partition][:_LOAD_TOGETHER]
            time_us = (day + number // PARTITIONS) * _DAY_US
            values = random.normal(0, 0.01, _LOAD_TOGETHER)
            batch = [
                Return(name, time_us, float(value))
                for name, value in zip(names, values, strict=True)
            ]
            due_s = began_s + number * _LOAD_TOGETHER / per_s
            if stop.wait(max(0.0, due_s - time.monotonic())):
                break
            value = encode(ReturnBatch(returns=batch))
            producer.produce(prefix + PORTFOLIO_RETURNS.name, value, partition=partition)
            producer.poll(0)
        producer.flush()

    if not per_s:
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(send))
        try:
            yield
        finally:
            stop.set()


def _home(portfolio: int) -> int:
    partitions = list(range(PARTITIONS))
    return int(DefaultPartitioner()(f"portfolio-{portfolio}".encode(), partitions, partitions))


class _Progress:
    """Counts the returns in the state that workers write."""

    def __init__(self, servers: str, prefix: str) -> None:
        self._consumer = _reader(servers, self._topic(prefix))
        self._accepted: dict[bytes, int] = {}
        self._total = 0

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def until(self, total: int) -> float:
        """Wait for so many returns; return Kafka's timestamp of the last, in milliseconds."""
        last_ms = 0.0
        async with asyncio.timeout(300):
            while self._total < total:
                record = await self._consumer.getone()
                assert record.key is not None
                assert record.value is not None
                accepted = self._accepted_in(record.value)
                self._total += accepted - self._accepted.get(record.key, 0)
                self._accepted[record.key] = accepted
                last_ms = float(record.timestamp)
        return last_ms

    def _topic(self, prefix: str) -> str:
        return prefix + RISK_STATE.name

    def _accepted_in(self, row: bytes) -> int:
        state = decode(row)
        assert isinstance(state, PortfolioState)
        return state.outcomes["accepted"]


class _ReadTimes:
    """The times at which a reader has had the records of each key.

    It takes all records at once: aiokafka does not fetch a partition whose records wait, and its
    other fetch takes up to half a second.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._read_ms: dict[bytes | None, list[float]] = {}
        self._changed = asyncio.Event()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._reading = self._tasks.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._reading.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def first_since(self, since_ms: float, key: bytes) -> float:
        """Wait for the first record of a key that is read after a time; return when it was."""
        async with asyncio.timeout(120):
            while True:
                times_ms = self._read_ms.get(key, ())
                for read_ms in times_ms:
                    if read_ms >= since_ms:
                        return read_ms
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        while True:
            found = await self._consumer.getmany(timeout_ms=1_000)
            read_ms = time.time() * 1000
            for record in chain(*found.values()):
                self._read_ms.setdefault(record.key, []).append(read_ms)
            self._changed.set()


class _StreamsProgress(_Progress):
    """Counts the returns in the rows of Kafka Streams' store."""

    def _topic(self, prefix: str) -> str:
        return kafka_streams.state_topic(prefix)

    def _accepted_in(self, row: bytes) -> int:
        return kafka_streams.accepted(row)


async def _next_measure_ms(servers: str, prefix: str, after_ms: float) -> float:
    """Wait for a measure after a time; return Kafka's timestamp, in milliseconds."""
    async with _reader(servers, prefix + RISK_MEASURES.name) as consumer, asyncio.timeout(120):
        async for record in consumer:
            if record.timestamp > after_ms:
                return float(record.timestamp)
    raise AssertionError("the consumer has ended")


def _reader(servers: str, topic: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )


def _cpu_s(processes: Sequence[Process]) -> float:
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(used.user + used.system for used in times)


def _peak_mib(process: Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    command: tuple[str, ...] = (sys.executable, "-m", "stream_processors")
    together: int = _TOGETHER
    workers: int = 1
    methods: str = "historical"
    is_warm: bool = True
    """Whether the windows are full before."""
    progress: type[_Progress] = _Progress
    """Counts what is done."""

    def part(self, name: str, folder: Path, env: Mapping[str, str]) -> Part:
        """Return a worker of a name, whose files are in a folder."""
        if self.progress is _Progress:
            return Part(name, self.command, env)
        ready = folder / f"{name}.ready"
        of_file = {kafka_streams.READY_FILE: str(ready)}
        return Part(name, self.command, {**env, **of_file}, probe=kafka_streams.when_ready(ready))


PLAIN = Case("plain Faust: a return a message, a table", _PLAIN, together=1, is_warm=False)
WORKER = Case("worker: historical VaR 95, 99 and ES")
FIFTY = Case("the same, 50 returns a message", together=50)
SINGLE = Case("the same, one return a message", together=1)
CLOSED = Case("worker: and all closed forms, three levels", methods=_CLOSED)
TWO = Case("two workers on two cores", workers=2)
BARE = Case("bare aiokafka loop, the same pure code", _BARE)


def streams_cases(folder: Path) -> Sequence[Case]:
    """Return the cases of Kafka Streams; none, and a printed line, without a Java compiler."""
    command = kafka_streams.compiled(folder)
    if command is None:
        print("Kafka Streams is left out: there is no javac; install a JDK of Java 17 or later")
        return ()
    name = "Kafka Streams: historical VaR 95, 99 and ES"
    many = Case(name, command, progress=_StreamsProgress)
    fifty = replace(many, name="the same, 50 returns a message", together=50)
    single = replace(many, name="the same, one return a message", together=1)
    return many, fifty, single


async def measure(servers: str, returns: int, folder: Path) -> None:
    """Run all cases in each of several rounds, and print the best speed of each case."""
    bench = Bench(servers, folder)
    cases = (PLAIN, WORKER, FIFTY, SINGLE, CLOSED, TWO, BARE, *streams_cases(folder))
    best: dict[Case, Speed] = {}
    for _ in range(_ROUNDS):
        for case in cases:
            found = await bench.speed(case, _PLAIN_RETURNS if case is PLAIN else returns)
            if case not in best or found.per_s > best[case].per_s:
                best[case] = found
    print("| | returns/s | times plain Faust | CPU µs a return | MiB |")
    print("| --- | --- | --- | --- | --- |")
    for case, speed in best.items():
        print(
            f"| {case.name} | {speed.per_s:,.0f} | {speed.per_s / best[PLAIN].per_s:.1f} "
            f"| {speed.cpu_us:.1f} | {speed.memory_mib:.0f} |"
        )
    single = best[WORKER].per_s
    print(f"\nclosed forms: {best[CLOSED].per_s / single:.2f} of the historical method's speed")
    print(f"two workers: {best[TWO].per_s / single:.2f} times one")
    print(f"the worker: {single / best[BARE].per_s:.2f} of the bare loop")
    again_s = min([await bench.restart_s() for _ in range(_ROUNDS)])
    print(f"restart with 1,000 portfolios: measuring again after {again_s:.1f} s")
    for beside_per_s in (0, _LOAD_PER_S):
        late_ms = await bench.alert_ms(_ALERTS, beside_per_s)
        p50, p99 = late_ms[len(late_ms) // 2], late_ms[len(late_ms) * 99 // 100]
        beside = f"beside {beside_per_s:,} returns/s" if beside_per_s else "on a quiet worker"
        print(f"an alert after its return, {beside}: p50 {p50:.0f} ms, p99 {p99:.0f} ms")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer returns, and less exact")
    quick: bool = parser.parse_args().quick
    with running_kafka() as servers, tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(servers, _RETURNS // 4 if quick else _RETURNS, Path(folder)))


if __name__ == "__main__":
    main()
