"""nginx, Envoy, HAProxy and Caddy before several edges, with the settings of `infra/proxies`.

The same is asked of each with its defaults, and what is seen is in `docs/guides/proxies.md`. What
takes long happens once, for all proxies side by side.
"""

import asyncio
import random
import resource
import ssl
import statistics
import time
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from producers.broadcaster import SSEBroadcaster
from tests.conftest import Started, TestKafka, World, open_world
from tests.soak import PATH as TRAINING, Account, Soak
from tests.support.certificates import Authority
from tests.support.proxies import KINDS, Proxy, running_proxy
from tests.support.raw_streams import RawStream, raw_stream

pytestmark = [
    pytest.mark.infra,
    pytest.mark.kafka,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]

ALERTS = "/api/v1/sse/alerts"
EDGES = 3
SILENCE_S = 90.0
STREAMS = "tapewire_connections{"
SLOW_S = 0.15
"""Between the first event of a proxy that passes it on and one that waits 0.2 s for more."""
KEPT_OUT_S = 2.5
"""As the guide says: in this time proxies with health checks learn of an edge that is back."""
MANY = 1_100
"""More than what a proxy's default bounds are, and few enough for two cores."""
BY_DEFAULT = "with defaults"
COMMON: dict[str, Any] = {"trusted_proxies": "127.0.0.1", "hosts": "edges"}
"""An nginx that is not told otherwise gives edges the name of its own list as the host's."""
EDGE = COMMON | {"drain_s": 1, "processor_patience_s": 1, "connections_per_ip_max": 10_000}
RUNS = [f"{name}{kind}" for kind in ("", f" {BY_DEFAULT}") for name in KINDS]


@dataclass
class Bench:
    """Edges, and each proxy twice, with our settings and with its defaults."""

    world: World
    edges: list[Started]
    proxies: dict[str, Proxy]
    """Proxies before all edges but the last one."""
    before_one: dict[str, Proxy]
    """Proxies before the last edge, which sends no heartbeats."""
    tls: ssl.SSLContext
    authority: Path

    def source(self, run: str, number: int = 0) -> str:
        """Return the address that a client of a proxy comes from; each proxy has its own."""
        return f"127.{20 + RUNS.index(run)}.{number // 250}.{number % 250 + 1}"

    def stream(self, run: str, path: str = ALERTS, number: int = 0, **options: Any) -> Any:
        """Open a stream through a proxy."""
        return self.at(self.proxies[run], run, path, number, **options)

    def at(
        self, proxy: Proxy, run: str, path: str = ALERTS, number: int = 0, **options: Any
    ) -> Any:
        source = self.source(run, number)
        return raw_stream(f"{proxy.url}{path}", source=source, tls=self.tls, **options)


def port_of(edge: Started) -> int:
    return int(edge.url.rpartition(":")[2])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(
    kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Bench]:
    folder = tmp_path_factory.mktemp("proxies")
    authority = Authority(folder)
    identity = authority.server("localhost", "127.0.0.1")
    tls = ssl.create_default_context(cafile=str(authority.file))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with open_world(kafka, folder) as world, AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as starting:
            started = [starting.create_task(world.edge(**EDGE)) for _ in range(EDGES)]
            silent = starting.create_task(world.edge(**COMMON, ping_s=3600, processor_patience_s=1))
        edges = [task.result() for task in (*started, silent)]
        ports = [port_of(edge) for edge in edges]

        async def start(place: str, run: str, ports: Sequence[int]) -> Proxy:
            name, _, kind = run.partition(" ")
            where = folder / f"{place} {run}".replace(" ", "-")
            return await stack.enter_async_context(
                running_proxy(name, where, ports, identity, is_default=bool(kind))
            )

        proxies = {run: await start("all", run, ports[:-1]) for run in RUNS}
        before_one = {run: await start("one", run, ports[-1:]) for run in RUNS}
        bench = Bench(world, edges, proxies, before_one, tls, authority.file)
        for proxy in (*proxies.values(), *before_one.values()):
            await _until_healthy(bench, proxy)
        yield bench


async def _until_healthy(bench: Bench, proxy: Proxy) -> None:
    """Wait until a proxy has found its edges."""
    async with asyncio.timeout(30), httpx.AsyncClient(verify=bench.tls) as http:
        while True:
            with suppress(httpx.TransportError):
                if (await http.get(f"{proxy.url}/health/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.1)  # a proxy notifies nobody of its health checks


async def first_byte_s(bench: Bench, run: str) -> float:
    """Return how long the first event takes after the request, at best.

    A busy machine may delay some, and a proxy that waits for more delays each.
    """
    best = float("inf")
    for number in range(30):
        began = time.monotonic()
        async with bench.stream(run) as stream:
            await stream.events("connected", 1)
            best = min(best, time.monotonic() - began)
        if number >= 4 and best < SLOW_S:
            break
    return best


async def lag_s(bench: Bench, run: str) -> float:
    """Return how much later than without the proxy events arrive, at best of three times."""
    lag = await median_lag_s(bench, run)
    for _ in range(2):
        if lag >= SLOW_S / 2:
            lag = min(lag, await median_lag_s(bench, run))
    return lag


async def median_lag_s(bench: Bench, run: str) -> float:
    """Return how much later than without the proxy an event arrives, as a median."""
    task, count = f"lag-{random.randrange(1 << 40)}", 20
    path = f"{TRAINING}?task_id={task}"

    async def arrivals(stream: RawStream) -> list[float]:
        found: list[float] = []
        while len(found) < count:
            await stream.more()
            here = sum(block.event == "training_progress" for block in stream.blocks)
            found += [time.monotonic()] * (here - len(found))
        return found

    async with (
        raw_stream(f"{bench.edges[0].url}{path}", source=bench.source(run)) as direct,
        bench.stream(run, path) as proxied,
        SSEBroadcaster(bench.world.producer_settings) as reporter,
        asyncio.TaskGroup() as tasks,
    ):
        for stream in (direct, proxied):
            await stream.events("connected", 1)
        times = [tasks.create_task(arrivals(stream)) for stream in (direct, proxied)]
        for number in range(count):
            await reporter.send_training_progress(task, 1.0, "running", str(number))
            await asyncio.sleep(0.05)  # apart, since an edge joins events that are close together
    direct_at, proxied_at = (each.result() for each in times)
    return statistics.median(
        late - early for early, late in zip(direct_at, proxied_at, strict=True)
    )


async def resumed(bench: Bench, run: str) -> list[str]:
    """Return what a client gets that resumes after the second of five events."""
    task = f"resume-{random.randrange(1 << 40)}"
    path = f"{TRAINING}?task_id={task}&from=earliest"
    async with SSEBroadcaster(bench.world.producer_settings) as reporter:
        for number in range(5):
            await reporter.send_training_progress(task, 1.0, "running", str(number))
    async with bench.stream(run, path) as stream:
        second = (await stream.events("training_progress", 5))[1]
    async with bench.stream(run, path, headers={"Last-Event-ID": second.id}) as stream:
        found = await stream.events("training_progress", 3)
    return [block.inner["message"] for block in found]


async def accepted(opened: Iterable[Any], within_s: float = 60.0) -> int:
    """Open streams at once, and return how many have got their first event."""
    count = 0
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:

        async def open_one(stream: Any) -> None:
            nonlocal count
            with suppress(OSError, asyncio.IncompleteReadError):
                reader: RawStream = await stack.enter_async_context(stream)
                while not reader.blocks and not reader.is_over:
                    await reader.more()
                count += (
                    reader.status == 200
                    and reader.blocks[:1] != []
                    and (reader.blocks[0].event == "connected")
                )

        opening = [tasks.create_task(open_one(stream)) for stream in opened]
        await asyncio.wait(opening, timeout=within_s)
        for task in opening:
            task.cancel()
        await asyncio.wait(opening)
    return count


async def many(bench: Bench, run: str, within_s: float = 30) -> int:
    """Return how many of many clients from many addresses can stream at once."""
    clients = (bench.stream(run, number=1_000 + number // 10) for number in range(MANY))
    return await accepted(clients, within_s)


async def from_addresses(bench: Bench, run: str) -> int:
    """Return how many of 101 clients from 101 addresses can stream at once."""
    proxy = bench.before_one[run]
    return await accepted(bench.at(proxy, run, number=number) for number in range(101))


async def from_forged_addresses(bench: Bench, run: str) -> int:
    """Return how many of 101 clients from one address can stream that name an address each."""
    proxy = bench.before_one[run]
    forged = ({"X-Forwarded-For": f"198.51.100.{number}"} for number in range(101))
    return await accepted(bench.at(proxy, run, number=500, headers=each) for each in forged)


async def left_after_s(bench: Bench, run: str) -> float | None:
    """Return after how long an edge knows that a client has left a silent stream, up to 5 s."""

    async def streams() -> float:
        async with httpx.AsyncClient(base_url=bench.edges[-1].url) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(STREAMS))

    before = await streams()
    async with bench.at(bench.before_one[run], run, number=700) as stream:
        await stream.events("connected", 1)
        assert await streams() == before + 1
    began = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while await streams() > before:  # noqa: ASYNC110  # another process counts them
                await asyncio.sleep(0.1)  # each look is a request
            return time.monotonic() - began
    return None


async def first_message(bench: Bench, run: str) -> str:
    """Return the kind of the first message of a WebSocket, or how it was refused."""
    proxy = bench.proxies[run]
    job = await _submit(bench)
    url = f"{proxy.url.replace('http', 'ws', 1)}/ws/backtest/{job}"
    tls = None if proxy.is_default else bench.tls
    try:
        async with asyncio.timeout(20), connect(url, ssl=tls) as socket:
            return "a message" if b'"type"' in await socket.recv(decode=False) else "other"
    except (WebSocketException, TimeoutError) as error:
        return str(error) if isinstance(error, WebSocketException) else "no message in 20 s"


async def _submit(bench: Bench) -> str:
    wanted = {
        "symbol": "IBM",
        "strategy": "moving_average_crossover",
        "parameters": {"fast": 10, "slow": 50},
        "start_date": "2005-01-01",
        "end_date": "2009-12-31",
    }
    async with httpx.AsyncClient(base_url=bench.edges[-1].url, timeout=30) as http:
        answer = await http.post("/api/backtesting/jobs", json=wanted)
        return str(answer.raise_for_status().json()["job_id"])


@dataclass(frozen=True)
class Silence:
    """After how many seconds a stream was cut; None if it was open to the end."""

    with_heartbeats: float | None
    without: float | None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def silences(bench: Bench) -> dict[str, Silence]:
    """Leave streams of each proxy open, with heartbeats every 30 s and without any."""

    async def cut_after(proxy: Proxy, run: str) -> float | None:
        async with bench.at(proxy, run, number=900) as stream:
            await stream.events("connected", 1)
            began = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE_S + 5):
                    while not stream.is_over:
                        await stream.more()
                    return time.monotonic() - began
        return None

    async with asyncio.TaskGroup() as tasks:
        found = {
            run: (
                tasks.create_task(cut_after(bench.proxies[run], run)),
                tasks.create_task(cut_after(bench.before_one[run], run)),
            )
            for run in RUNS
        }
    return {run: Silence(*(task.result() for task in pair)) for run, pair in found.items()}


@dataclass
class Roll:
    """What the clients of a proxy have seen while the edges were restarted."""

    accounts: list[Account]
    answers: Counter[str] = field(default_factory=Counter)
    """How often a client that follows got each answer."""
    probes: Counter[str] = field(default_factory=Counter)
    """How often a client that comes ten times a second did."""

    @property
    def faults(self) -> int:
        return sum(
            account.lost + account.repeated + account.out_of_order + account.gaps
            for account in self.accounts
        )

    @property
    def refused(self) -> int:
        """How many answers would have ended a browser's EventSource."""
        answers = self.answers + self.probes
        return sum(n for answer, n in answers.items() if not answer.startswith(("200", "cut")))

    def __str__(self) -> str:
        return f"{self.faults} faults, answers {dict(self.answers)} and {dict(self.probes)}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rolls(bench: Bench) -> tuple[int, dict[str, Roll]]:
    """Restart the edges one after another while clients follow through each proxy."""
    soak = Soak(bench.world, random.Random(19), rate=60)
    found = {run: Roll([Account(), Account()]) for run in RUNS}

    async def roll() -> None:
        for number, edge in enumerate(bench.edges[:EDGES]):
            await edge.stop()
            bench.edges[number] = await bench.world.edge(**EDGE, port=port_of(edge))
            await asyncio.sleep(KEPT_OUT_S)  # as the guide says of a rolling restart
        rolled.set()

    rolled = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for run in RUNS:
            for account in found[run].accounts:
                tasks.create_task(_follow(bench, run, soak, account, found[run].answers))
            tasks.create_task(_probe(bench, run, rolled, found[run].probes))
        await soak.produce(1)
        tasks.create_task(roll())
        while not rolled.is_set():
            await soak.produce(0.5)
        soak.over.set()
    return sum(soak.produced.values()), found


async def _follow(
    bench: Bench, run: str, soak: Soak, account: Account, answers: Counter[str]
) -> None:
    """Read, and come back after each end, until everything has come."""

    def is_done() -> bool:
        return soak.over.is_set() and soak.has_everything(account)

    path = f"{TRAINING}?from=earliest&heartbeat=1"  # a heartbeat wakes who waits for the end
    while not is_done():
        headers = {"Last-Event-ID": account.cursor} if account.cursor else {}
        try:
            async with bench.stream(run, path, headers=headers) as stream:
                answers[str(stream.status)] += 1
                while not (stream.is_over or is_done()):
                    known = len(stream.blocks)
                    await stream.more()
                    for block in stream.blocks[known:]:
                        account.take(block.raw)
        except (OSError, asyncio.IncompleteReadError):
            answers["cut"] += 1
        await asyncio.sleep(random.uniform(0.05, 0.2))  # clients do not come back all at once


async def _probe(bench: Bench, run: str, rolled: asyncio.Event, answers: Counter[str]) -> None:
    """Open stream after stream until the edges have restarted."""
    while not rolled.is_set():
        try:
            async with asyncio.timeout(20), bench.stream(run, number=950) as stream:
                while not (stream.blocks or stream.is_over):
                    await stream.more()
                is_error = any(block.event == "error" for block in stream.blocks)
                answers[f"{stream.status}{' and an error event' if is_error else ''}"] += 1
        except TimeoutError:
            answers["none in 20 s"] += 1
        except (OSError, asyncio.IncompleteReadError):
            answers["cut"] += 1
        await asyncio.sleep(0.1)  # the rate of its probes


def spelled(cut_after_s: float | None) -> str:
    return f"open after {SILENCE_S:.0f} s" if cut_after_s is None else f"cut at {cut_after_s:.0f} s"


each_proxy = pytest.mark.parametrize("name", KINDS)


@each_proxy
async def test_a_stream_survives_silence(
    silences: dict[str, Silence], name: str, account: Callable[[str], None]
) -> None:
    silence = silences[name]
    account(f"without heartbeats {spelled(silence.without)}")
    assert silence == Silence(None, None)


@each_proxy
async def test_events_pass_at_once(bench: Bench, name: str, account: Callable[[str], None]) -> None:
    first, lag = await first_byte_s(bench, name), await lag_s(bench, name)
    account(f"first event after {first * 1000:.0f} ms, each {lag * 1000:.1f} ms later than direct")
    assert first < SLOW_S
    assert lag < SLOW_S / 2


@each_proxy
async def test_a_client_resumes_by_its_last_id(bench: Bench, name: str) -> None:
    assert await resumed(bench, name) == ["2", "3", "4"]


@each_proxy
async def test_clients_count_by_the_addresses_that_they_have(
    bench: Bench, name: str, account: Callable[[str], None]
) -> None:
    apart, forged = await from_addresses(bench, name), await from_forged_addresses(bench, name)
    account(f"of 101 clients: {apart} from 101 addresses, {forged} from one that name 101")
    assert (apart, forged) == (101, 100)


@each_proxy
async def test_a_client_that_leaves_is_gone_at_the_edge(bench: Bench, name: str) -> None:
    assert await left_after_s(bench, name) is not None


@each_proxy
async def test_a_websocket_passes(bench: Bench, name: str) -> None:
    assert await first_message(bench, name) == "a message"


@each_proxy
async def test_more_streams_are_open_than_proxies_allow_by_default(
    bench: Bench, name: str, account: Callable[[str], None]
) -> None:
    opened = await many(bench, name)
    account(f"{opened:,} of {MANY:,} streams at once")
    assert opened == MANY


@each_proxy
async def test_what_the_edge_compresses_passes_event_by_event(bench: Bench, name: str) -> None:
    task = f"gzip-{random.randrange(1 << 40)}"
    unzip = zlib.decompressobj(31)
    text = b""
    path = f"{TRAINING}?task_id={task}"
    async with (
        bench.stream(name, path, headers={"Accept-Encoding": "gzip"}) as stream,
        SSEBroadcaster(bench.world.producer_settings) as reporter,
    ):
        assert stream.headers["content-encoding"] == "gzip"
        while b"connected" not in text:
            text += unzip.decompress(await stream.more())
        await reporter.send_training_progress(task, 1.0, "running", "compressed")
        while b"compressed" not in text:
            text += unzip.decompress(await stream.more())


@each_proxy
async def test_streams_pass_over_http_2(bench: Bench, name: str) -> None:
    url = f"{bench.proxies[name].url}{ALERTS}"
    curl = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--no-buffer", "--http2", "--cacert", str(bench.authority)),
        *("--include", "--max-time", "60", url),
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdout is not None
    assert (await curl.stdout.readline()).startswith(b"HTTP/2 200")
    while not (line := await curl.stdout.readline()).startswith(b"event:"):
        assert line
    assert line == b"event: connected\n"
    curl.terminate()
    await curl.wait()


@each_proxy
async def test_edges_restart_and_no_client_loses_an_event(
    rolls: tuple[int, dict[str, Roll]], name: str, account: Callable[[str], None]
) -> None:
    produced, found = rolls
    roll = found[name]
    account(f"{produced} events, {roll}")
    assert roll.faults == 0
    assert [each.delivered for each in roll.accounts] == [produced] * len(roll.accounts)
    assert roll.refused == 0
    assert roll.answers["200"] > len(roll.accounts)


@dataclass(frozen=True)
class Defaults:
    """What was seen of a proxy with its defaults, as the documentation's table has it."""

    is_slow: bool = False
    """Whether events wait for more to come."""
    apart: bool = False
    """Whether 101 clients from 101 addresses are all served."""
    forged: bool = True
    """Whether 101 clients from one address are, if they name other addresses."""
    websocket: bool = True
    leaves: bool = True
    """Whether an edge knows within seconds that a client has left a silent stream."""
    most: int = MANY
    """How many of many clients get a stream."""
    cut_after_s: float | None = None
    """When a stream without heartbeats is cut."""
    cut_though_alive_s: float | None = None
    """When a stream with a heartbeat every 30 s is."""


SEEN: dict[str, Defaults] = {
    "nginx": Defaults(websocket=False, most=300, cut_after_s=60),
    "envoy": Defaults(
        websocket=False,
        most=1_024,
        cut_after_s=15,
        cut_though_alive_s=15,
    ),
    "haproxy": Defaults(is_slow=True, leaves=False, cut_after_s=50),
    "caddy": Defaults(apart=True, forged=False),
}


@each_proxy
async def test_the_defaults_of_a_proxy_break_what_the_documentation_says(
    bench: Bench,
    silences: dict[str, Silence],
    rolls: tuple[int, dict[str, Roll]],
    name: str,
    account: Callable[[str], None],
) -> None:
    run, seen = f"{name} {BY_DEFAULT}", SEEN[name]
    first, lag = await first_byte_s(bench, run), await lag_s(bench, run)
    account(f"first event after {first * 1000:.0f} ms, each {lag * 1000:.1f} ms later than direct")
    left = await left_after_s(bench, run)
    account(
        "a client that has left " + ("counts on" if left is None else f"is gone in {left:.1f} s")
    )
    apart, forged = await from_addresses(bench, run), await from_forged_addresses(bench, run)
    account(f"of 101 clients: {apart} from 101 addresses, {forged} from one that name 101")
    # Before the first streams are cut, and others take their places.
    within_s = 30 if seen.cut_though_alive_s is None else seen.cut_though_alive_s - 3
    message, opened = await first_message(bench, run), await many(bench, run, within_s)
    account(f"WebSocket: {message}; {opened:,} of {MANY:,} streams at once")
    silence = silences[run]
    account(
        f"with heartbeats {spelled(silence.with_heartbeats)}, without {spelled(silence.without)}"
    )
    produced, found = rolls
    roll = found[run]
    account(f"rolling restart: {produced} events, {roll}")

    assert (first > SLOW_S) == seen.is_slow
    assert (left is not None) == seen.leaves
    assert (apart == 101, forged == 101) == (seen.apart, seen.forged)
    assert (message == "a message") == seen.websocket
    assert opened == seen.most if seen.most == MANY else opened <= seen.most
    for cut, expected in (
        (silence.without, seen.cut_after_s),
        (silence.with_heartbeats, seen.cut_though_alive_s),
    ):
        assert (cut is None) == (expected is None)
        assert cut is None or expected is None or abs(cut - expected) < 5
    # How many answers are refused depends on how fast edges restart; the account has the number.
    assert roll.faults == 0
