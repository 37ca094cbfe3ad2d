"""`make bench-processors`: compare the risk worker with plain Faust and with a bare loop.

Each worker is a process bound to one core. Its progress is read from the state that it writes, with
Kafka's timestamps. README.md in this folder explains the figures.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Self

import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Producer

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

    async def speed(
        self, module: str, returns: int, together: int, workers: int = 1, **env: str
    ) -> Speed:
        """Measure how fast the workers of a module process returns, one worker on each core.

        The time is from the sending of the first return, by Kafka's client in another thread, to
        the writing of the last return's state.

        Args:
            module: the module that a worker runs.
            returns: the number of returns; their portfolios' windows are full before.
            together: the number of returns in a message.
            workers: the number of workers.
            **env: the workers' settings.
        """
        before = _PORTFOLIOS * _WINDOW if together > 1 else 0
        total = before + returns
        async with (
            self._topics() as prefix,
            self._workers(module, prefix, workers, env) as ran,
            _Progress(self._servers, prefix) as progress,
        ):
            messages = await asyncio.to_thread(_messages, range(total), together, before)
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
                self._workers("stream_processors", prefix, 1, {}) as (first,),
                _Progress(self._servers, prefix) as progress,
            ):
                await asyncio.to_thread(_publish, self._servers, prefix, before)
                await progress.until(total)
                first.send_signal(signal.SIGKILL)
                await first.ended()
            await asyncio.to_thread(_publish, self._servers, prefix, after)
            began_ms = time.time() * 1000
            async with self._workers("stream_processors", prefix, 1, {}):
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
            self._workers("stream_processors", prefix, 1, {"TAPEWIRE_VAR_LIMIT": "0.1"}),
            _Progress(self._servers, prefix) as progress,
            _reader(self._servers, prefix + RISK_ALERTS.name) as raised,
            _reader(self._servers, prefix + PORTFOLIO_RETURNS.name) as sent,
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
        raised: AIOKafkaConsumer,
    ) -> float:
        name = f"portfolio-{portfolio}"
        crash = [Return(name, (days + day) * _DAY_US, -0.5) for day in range(days // 10)]
        message = _home(portfolio), encode(ReturnBatch(returns=crash))
        await asyncio.to_thread(_publish, self._servers, prefix, [message])
        while (await raised.getone()).key != name.encode():
            pass  # an alert of the calm days
        read_ms = time.time() * 1000
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
        self, module: str, prefix: str, workers: int, env: dict[str, str]
    ) -> AsyncGenerator[list[Process]]:
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "TAPEWIRE_TOPIC_PREFIX": prefix,
            "TAPEWIRE_VAR_LIMIT": _LIMIT,
            "TAPEWIRE_RISK_METHODS": "historical",
            "APP_DATADIR": str(self._folder),  # plain Faust would take the present one
        }
        running = []
        async with AsyncExitStack() as stack:
            for number in range(workers):
                name = f"{prefix}{number}"
                own = {"TAPEWIRE_WORKER_ID": name}
                part = Part(name, (sys.executable, "-m", module), common | own | env)
                process = Process(part, self._folder / f"{name}.log")
                await process.start()
                stack.push_async_callback(process.stop)
                psutil.Process(process.pid).cpu_affinity([self._cores[-1 - number]])
                running.append(process)
            yield running


Message = tuple[int, bytes]
"""A partition, and a batch of returns."""


def _messages(numbers: range, together: int, before: int) -> tuple[list[Message], list[Message]]:
    """Return batches of returns by portfolio and day: those before a number, and the others."""
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
        if len(batch) == together:
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
        self._consumer = _reader(servers, prefix + RISK_STATE.name)
        self._accepted: dict[str, int] = {}
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
                state = decode(record.value)
                assert isinstance(state, PortfolioState)
                accepted = state.outcomes["accepted"]
                self._total += accepted - self._accepted.get(state.portfolio_id, 0)
                self._accepted[state.portfolio_id] = accepted
                last_ms = float(record.timestamp)
        return last_ms


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
    module: str
    together: int = _TOGETHER
    workers: int = 1
    methods: str = "historical"


PLAIN = Case("plain Faust: a return a message, a table", "benchmarks.plain_faust", together=1)
WORKER = Case("worker: historical VaR 95, 99 and ES", "stream_processors")
FIFTY = Case("the same, 50 returns a message", "stream_processors", together=50)
CLOSED = Case("worker: and all closed forms, three levels", "stream_processors", methods=_CLOSED)
TWO = Case("two workers on two cores", "stream_processors", workers=2)
BARE = Case("bare aiokafka loop, the same pure code", "benchmarks.bare_loop")


async def measure(servers: str, returns: int, folder: Path) -> None:
    """Run all cases in each of several rounds, and print the best speed of each case."""
    bench = Bench(servers, folder)
    best: dict[Case, Speed] = {}
    for _ in range(_ROUNDS):
        for case in (PLAIN, WORKER, FIFTY, CLOSED, TWO, BARE):
            found = await bench.speed(
                case.module,
                _PLAIN_RETURNS if case is PLAIN else returns,
                case.together,
                case.workers,
                TAPEWIRE_RISK_METHODS=case.methods,
            )
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
