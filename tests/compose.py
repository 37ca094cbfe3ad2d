"""The compose file on a real engine: `make compose-test`, after `make images`.

Clients follow numbered events and alerts through the proxy, while a broker, an edge and a processor
are killed, one after another and then all at once. In the end every client must have had every
event once, and the alerts of a run without faults once each. The account is printed, and the exit
is 1 where it does not balance.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import httpx

from build_tools.compose_files import COMPOSE, OUTSIDE_PORTS, USERS, make
from infra.demo_issuer import token
from infra.embedded_broker import free_port
from tests.conftest import TestKafka, World
from tests.faults.traffic import WatchedAccount
from tests.soak import Account, Soak
from tests.support.returns_flow import ReturnsFlow
from tests.support.sse import Reader
from tests.support.straight_run import TopicReader, straight_run

PROJECT = "tapewire-test"
FAULTS: Sequence[Mapping[str, str]] = (
    {"broker": "kafka-2"},
    {"edge": "edge-1"},
    {"processor": "processor-1"},
    {"broker": "kafka-3", "edge": "edge-2", "processor": "processor-2"},
    {"edge": "edge-3"},
)
"""What is killed, one after another."""
DOWN_S = 10.0
"""Longer than a session of a worker, shorter than what a deployment does to start again."""
GOES_ON_WITHIN_S = 180.0
"""A bound for a busy machine; the account has the seconds that were measured."""
_TARGETS = 9
_CLIENTS = 3
_EVENTS_PER_S = 36.0
_RETURNS_PACE_S = 0.5
_START_S = 420.0
_TRAINING = "/api/v1/sse/training"
_ALERTS = "/api/v1/sse/alerts"


class Engine:
    """The services of the compose file."""

    def __init__(self, folder: Path) -> None:
        self._env = os.environ | {
            "TAPEWIRE_HTTPS_PORT": str(free_port()),
            "TAPEWIRE_KAFKA_OPTS": "-XX:TieredStopAtLevel=1",  # starts in half the time
            "TAPEWIRE_PROMETHEUS_PORT": str(free_port(19_300)),
            "TAPEWIRE_ALERTMANAGER_PORT": str(free_port(19_400)),
        }
        files = ("-f", str(COMPOSE / "compose.yaml"), "--env-file", str(folder / "env"))
        self._compose = (*compose_command(), "-p", PROJECT, *files)
        self._ids: dict[str, str] = {}
        self.url = f"https://localhost:{self._env['TAPEWIRE_HTTPS_PORT']}"
        self.prometheus = f"http://localhost:{self._env['TAPEWIRE_PROMETHEUS_PORT']}"

    def up(self) -> None:
        self._run(*self._compose, "up", "-d")

    def down(self) -> None:
        self._run(*self._compose, "down", "--volumes", "--timeout", "20")

    def logs(self) -> str:
        return self._run(*self._compose, "logs", "--no-color", "--tail", "40")

    def kill(self, services: Sequence[str]) -> None:
        self._run("docker", "kill", *map(self._id, services))

    def start(self, services: Sequence[str]) -> None:
        self._run("docker", "start", *map(self._id, services))

    def wait_until_healthy(self, services: Sequence[str]) -> None:
        show = ("docker", "inspect", "--format", "{{.State.Health.Status}}")
        deadline_s = time.monotonic() + GOES_ON_WITHIN_S
        while set(self._run(*show, *map(self._id, services)).split()) != {"healthy"}:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{', '.join(services)}: not healthy in {GOES_ON_WITHIN_S:g} s")
            time.sleep(1)  # an inspection does not wait, and events do not tell of what was before

    def _id(self, service: str) -> str:
        if service not in self._ids:
            self._ids[service] = self._run(*self._compose, "ps", "-q", service).strip()
        return self._ids[service]

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} has failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def compose_command() -> Sequence[str]:
    """Return the command of compose that is installed: version 2, or docker-compose 1.29."""
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    docker = shutil.which("docker") or sys.exit("docker is not installed")
    found = subprocess.run((docker, "compose", "version"), capture_output=True, check=False)
    if found.returncode != 0:
        sys.exit("neither docker-compose nor `docker compose` is installed")
    return (docker, "compose")


class Alerts:
    """The transitions of alerts that a client has had, and where it stopped."""

    def __init__(self) -> None:
        self.cursor = ""
        self.had: Counter[str] = Counter()
        self.resumes = 0
        self._reader = Reader()

    def take(self, raw: bytes) -> None:
        for block in self._reader.feed(raw + b"\n\n"):
            if block.event == "risk_alert":
                self.had[block.inner["transition_id"]] += 1
            if block.id:
                self.cursor = block.id


class Clients:
    """Clients behind the proxy. Each resumes wherever the proxy leads it."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=folder / "ca.pem")
        self._token = token(folder, "compose-test", None, 24 * 3600.0)
        self.edges: Counter[str] = Counter()
        self.over = asyncio.Event()

    @asynccontextmanager
    async def http(self) -> AsyncGenerator[httpx.AsyncClient]:
        async with httpx.AsyncClient(
            base_url=self._url,
            verify=self._context,
            timeout=httpx.Timeout(10.0, read=60.0),
            headers={"Authorization": f"Bearer {self._token}"},
        ) as http:
            yield http

    async def wait(self, within_s: float) -> None:
        """Return when an edge serves streams."""
        async with asyncio.timeout(within_s), self.http() as http:
            while True:
                with suppress(httpx.HTTPError):
                    if (await http.get("/health/ready")).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(1)  # edges notify nobody outside when they become ready

    async def follow(
        self, path: str, account: Account | Alerts, has_everything: Callable[[], bool]
    ) -> None:
        """Read a stream from its beginning, and resume it, until the account has everything."""
        while not (self.over.is_set() and has_everything()):
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(30), self.http() as http:
                    await self._read(http, path, account, has_everything)
            account.resumes += 1
            await asyncio.sleep(0.3)  # browsers pause before they come back, too

    async def _read(
        self,
        http: httpx.AsyncClient,
        path: str,
        account: Account | Alerts,
        has_everything: Callable[[], bool],
    ) -> None:
        headers = {"Accept": "text/event-stream"}
        if account.cursor:
            headers["Last-Event-ID"] = account.cursor
        params = {} if account.cursor else {"from": "earliest"}
        async with http.stream("GET", path, headers=headers, params=params) as response:
            if response.status_code != httpx.codes.OK:
                self.edges[f"answer {response.status_code}"] += 1
                return
            rest = b""
            async for data in response.aiter_bytes():
                *blocks, rest = (rest + data).split(b"\n\n")
                for block in blocks:
                    account.take(block)
                if self.over.is_set() and has_everything():
                    return


class Scene:
    """Senders, clients and faults."""

    def __init__(self, engine: Engine, clients: Clients, world: World) -> None:
        self._engine = engine
        self._clients = clients
        self._soak = Soak(world, random.Random(1), _EVENTS_PER_S)
        # It only sends: clients read the alerts, through the proxy.
        self._returns = ReturnsFlow(world, cast("TopicReader", None), _RETURNS_PACE_S)
        self._changed = asyncio.Event()
        self._accounts = [WatchedAccount(self._changed) for _ in range(_CLIENTS)]
        self._alerts = Alerts()
        self._expected: frozenset[str] = frozenset()
        self.lines: list[str] = []

    async def run(self) -> bool:
        """Let everything flow and break; return whether the account balances."""
        over = self._clients.over
        async with asyncio.TaskGroup() as tasks:
            sending = [
                tasks.create_task(self._soak.produce_while(lambda: not over.is_set())),
                tasks.create_task(self._returns.send_while(lambda: not over.is_set())),
            ]
            following = [tasks.create_task(self._follow(account)) for account in self._accounts]
            following.append(
                tasks.create_task(self._clients.follow(_ALERTS, self._alerts, self._has_alerts))
            )
            await self._goes_on("before any fault")
            for fault in FAULTS:
                await self._break(fault)
            over.set()
            await asyncio.wait(sending)
            self._expected = frozenset(
                alert.transition_id for alert in straight_run(self._returns.days)[1]
            )
            with suppress(TimeoutError):  # what they lack is seen in the account
                async with asyncio.timeout(GOES_ON_WITHIN_S):
                    await asyncio.wait(following)
            for task in following:
                task.cancel()
        return self._balance()

    async def _follow(self, account: Account) -> None:
        await self._clients.follow(_TRAINING, account, lambda: self._soak.has_everything(account))

    def _has_alerts(self) -> bool:
        return bool(self._expected) and self._alerts.had.keys() >= self._expected

    async def _break(self, fault: Mapping[str, str]) -> None:
        services = list(fault.values())
        began_s = time.monotonic()
        await asyncio.to_thread(self._engine.kill, services)
        await self._goes_on(f"{', '.join(services)} killed", began_s)
        await asyncio.sleep(began_s + DOWN_S - time.monotonic())  # the rest of the fault
        started_s = time.monotonic()
        await asyncio.to_thread(self._engine.start, services)
        await asyncio.to_thread(self._engine.wait_until_healthy, services)
        self._say(f"{', '.join(services)} started, healthy after", started_s)

    async def _goes_on(self, what: str, began_s: float | None = None) -> None:
        """Wait until all clients have had an event of each task that is sent from now on."""
        began_s = began_s or time.monotonic()
        numbers = Counter({task: number + 1 for task, number in self._soak.produced.items()})
        async with asyncio.timeout(GOES_ON_WITHIN_S):
            while not numbers or any(
                account.had.get(task, -1) < number
                for account in self._accounts
                for task, number in numbers.items()
            ):
                numbers = numbers or Counter(self._soak.produced)
                self._changed.clear()
                await self._changed.wait()
        self._say(f"{what}: clients go on after", began_s)

    def _say(self, what: str, began_s: float) -> None:
        print(f"{what} {time.monotonic() - began_s:.1f} s", flush=True)

    def _balance(self) -> bool:
        sent = self._soak.produced.total()
        print(f"events sent   {sent:>9,}   to {len(self._accounts)} clients each")
        names = "delivered", "lost", "repeated", "out_of_order", "gaps", "resumes"
        totals = {name: sum(getattr(account, name) for account in self._accounts) for name in names}
        for name, total in totals.items():
            print(f"{name.replace('_', ' '):<13} {total:>9,}")
        had = self._alerts.had
        lost = len(self._expected - had.keys())
        repeated = had.total() - len(had)
        foreign = len(had.keys() - self._expected)
        print(
            f"alerts        {had.total():>9,}   of {len(self._expected):,} after "
            f"{self._returns.days:,} trading days; lost {lost}, repeated {repeated}, "
            f"others {foreign}, resumes {self._alerts.resumes}"
        )
        print("other answers", dict(self._clients.edges))
        wrong = sum(totals[name] for name in ("lost", "repeated", "out_of_order", "gaps"))
        return (
            wrong + lost + repeated + foreign == 0
            and totals["delivered"] == sent * len(self._accounts)
            and bool(had)
        )


async def scraped(prometheus: str) -> int:
    """Return the number of targets that Prometheus finds up."""
    async with httpx.AsyncClient(base_url=prometheus) as http:
        answer = await http.get("/api/v1/query", params={"query": 'sum(up{job="tapewire"})'})
    found = json.loads(answer.text)["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def settings_of(user: str, folder: Path) -> Mapping[str, str]:
    """Return the settings of a user of the cluster."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": ",".join(f"localhost:{port}" for port in OUTSIDE_PORTS),
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": user,
        "KAFKA_SASL_PASSWORD_FILE": str(folder / "passwords" / user),
        "KAFKA_SSL_CA_FILE": str(folder / "ca.pem"),
    }


def use_as_reporter(folder: Path) -> str:
    """Let this process be the user `reporter` of the cluster; return the cluster's addresses."""
    settings = settings_of("reporter", folder)
    os.environ |= settings
    return settings["KAFKA_BOOTSTRAP_SERVERS"]


def access_of(user: str, part: str, folder: Path) -> str:
    """Return what the doctor says of a user's access, as that of a part."""
    done = subprocess.run(
        (sys.executable, "-m", "cli", "doctor", "--part", part, "--json"),
        env=os.environ | settings_of(user, folder) | {"TAPEWIRE_DATA_DIR": str(folder / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [check for check in json.loads(done.stdout) if check["name"] == "access"]
    return str(found[0]["result"])


def has_own_access_only(folder: Path) -> bool:
    """Return whether each user has the access of its part, and one has not that of another."""
    own = {user: access_of(user, user, folder) for user in USERS[1:]}
    other = access_of("reporter", "processor", folder)
    print("access        ", own, f"; the reporter's as a processor: {other}")
    return set(own.values()) == {"ok"} and other == "wrong"


async def run(folder: Path, *, keeps: bool) -> bool:
    """Start everything, break it, and return whether the account balances."""
    await asyncio.to_thread(make, folder)
    engine = Engine(folder)
    began_s = time.monotonic()
    try:
        await asyncio.to_thread(engine.up)
        clients = Clients(engine.url, folder)
        await clients.wait(_START_S)
        print(f"started in {time.monotonic() - began_s:.0f} s at {engine.url}", flush=True)
        world = World(TestKafka(use_as_reporter(folder)), "", folder, AsyncExitStack())
        balances = await Scene(engine, clients, world).run()
        has_access = await asyncio.to_thread(has_own_access_only, folder)
        targets = await scraped(engine.prometheus)
        print(f"Prometheus    {targets:>9}   of {_TARGETS} targets are up")
    except BaseException:
        print(await asyncio.to_thread(engine.logs))
        raise
    finally:
        if not keeps:
            await asyncio.to_thread(engine.down)
    return balances and has_access and targets == _TARGETS


def main() -> None:
    """Run the scene, and print the account."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the services running")
    keeps: bool = parser.parse_args().keep
    if shutil.which("docker") is None:
        sys.exit("docker is not installed; Debian's packages are docker.io and docker-compose")
    # Clients outside log every broker that is killed, in lines that would bury the account.
    for name in ("aiokafka", "kafka_io", "producers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="tapewire-compose-"))
    balances = asyncio.run(run(folder, keeps=keeps))
    print("the account balances" if balances else "THE ACCOUNT DOES NOT BALANCE")
    sys.exit(0 if balances else 1)


if __name__ == "__main__":
    main()
