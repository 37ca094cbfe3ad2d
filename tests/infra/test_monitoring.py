"""A running system, scraped by a real Prometheus that is asked every query of rules and panels."""

import asyncio
import json
import os
import re
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from infra.dashboards import DASHBOARDS
from infra.data_dir import TARGETS, find_running
from infra.embedded_broker import free_port
from infra.prometheus_targets import Target, targets_file
from schemas.topics import PORTFOLIO_RETURNS, RISK_ALERTS
from tests.support.certificates import Authority
from tests.support.local_server import QuietHandler, serving
from tests.support.prometheus import Prometheus, alertmanager, prometheus, selectors
from tests.support.secured_kafka import secured_kafka

pytestmark = [pytest.mark.infra, pytest.mark.kafka, pytest.mark.timeout(600)]

_STARTED_S = 180.0
_FOUND_S = 120.0
_INTERVAL = "20s"
"""What Grafana would put for the interval of rates."""
_STREAMS = ("/api/v1/sse/alerts", "/api/v1/sse/measures", "/api/v1/sse/dashboard")


@asynccontextmanager
async def started(ready: str, *command: str, **env: str) -> AsyncGenerator[None]:
    """Run a process, from the line that says that it is ready to the end of the block."""
    inherited = {name: value for name, value in os.environ.items() if "KAFKA" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=inherited | env,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(_STARTED_S):
            async for line in process.stdout:
                lines.append(line.decode())
                if re.search(ready, lines[-1]):
                    break
            else:
                pytest.fail("".join(lines))
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def follow(http: httpx.AsyncClient, path: str) -> None:
    """Read a stream until cancelled."""
    async with http.stream("GET", path) as answer:
        assert answer.status_code == 200, path
        async for _ in answer.aiter_bytes():
            pass


async def write_garbage(servers: str) -> None:
    """Write what processors make dead letters of, and what an edge cannot show."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        for topic in (PORTFOLIO_RETURNS, RISK_ALERTS):
            await producer.send_and_wait(topic.name, b"nonsense", b"key")
    finally:
        await producer.stop()


async def until_found(asked: Prometheus, exprs: set[str]) -> set[str]:
    """Return which queries stay without a result."""
    empty = exprs
    end_s = time.monotonic() + _FOUND_S
    while empty and time.monotonic() < end_s:
        empty = {expr for expr in empty if not await asked.query(expr)}
        await asyncio.sleep(1)  # it scrapes each second
    return empty


@contextmanager
def webhook() -> Generator[tuple[str, SimpleQueue[dict[str, Any]]]]:
    """Take what Alertmanager sends: the address of the webhook, and the alerts."""
    received: SimpleQueue[dict[str, Any]] = SimpleQueue()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802  # the library calls it
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                received.put(alert)
            self.send_response(200)
            self.end_headers()

    with serving(Handler) as address:
        yield f"{address}/alerts", received


async def until_received(received: SimpleQueue[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the next alert of a name that a webhook gets."""
    while True:
        alert = await asyncio.to_thread(received.get, timeout=_FOUND_S)
        if alert["labels"]["alertname"] == name:
            return alert


def panel_queries() -> set[str]:
    return {
        query.expr.replace("$__rate_interval", _INTERVAL)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    }


async def test_every_query_of_rules_and_dashboards_finds_what_a_running_system_shows(
    tmp_path: Path, account: Any
) -> None:
    """Beside the system a worker uses a Kafka with TLS and tokens, for what only that shows."""
    authority = Authority(tmp_path)
    identity = authority.server("localhost", "127.0.0.1")
    data, secure = tmp_path / "data", tmp_path / "secure"
    secure.mkdir()
    worker_port, edge_port = free_port(), free_port()
    with secured_kafka(secure, {}) as kafka:
        kafka.allow_all("trainer")
        async with (
            started(
                r"open http",
                *("cli", "up", "--data-dir", str(data), "--port", str(edge_port)),
                *("--speed", "100"),
                TAPEWIRE_TLS_CERT=str(identity.certificate),
                TAPEWIRE_TLS_KEY=str(identity.key),
                # Nothing listens there: spans are kept or lost, and metrics name their traces.
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
            ),
            started(
                "waiting for commands|metrics are at",
                *("producers", "trainer"),
                TAPEWIRE_METRICS_PORT=str(worker_port),
                **kafka.token("trainer"),
            ),
            httpx.AsyncClient(
                base_url=f"https://localhost:{edge_port}",
                verify=ssl.create_default_context(cafile=authority.file),
                timeout=httpx.Timeout(10, read=None),
            ) as http,
            asyncio.TaskGroup() as streams,
        ):
            system = find_running(data)
            assert system is not None
            following = [streams.create_task(follow(http, path)) for path in _STREAMS]
            with (
                targets_file(secure / "prometheus.json", [Target("trainer", worker_port)]),
                webhook() as (webhook_url, received),
            ):
                files = [data / TARGETS, secure / "prometheus.json"]
                async with (
                    alertmanager(tmp_path, webhook_url) as alertmanager_url,
                    prometheus(tmp_path, files, alertmanager_url) as asked,
                ):
                    began_s = time.time()
                    assert not await until_found(asked, {"tapewire_dead_letters_total"})
                    await write_garbage(system.bootstrap_servers)
                    rules = await asked.rules()
                    queried = {selector for rule in rules for selector in selectors(rule["query"])}
                    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
                    panels = panel_queries()
                    empty = await until_found(asked, panels | recorded | queried)
                    assert not empty
                    for rule in await asked.rules():
                        assert rule["health"] == "ok", rule
                    targets = await asked.targets()
                    assert {target["health"] for target in targets} == {"up"}
                    for name in ("tapewire_delivery_lag", "tapewire_worker_transaction"):
                        query = f"{name}_seconds_bucket"
                        traced = await asked.exemplars(query, began_s, time.time())
                        assert "trace_id" in traced[0]["exemplars"][0]["labels"], name
                    alert = await until_received(received, "TapewireDeadLetters")
                    assert alert["annotations"]["summary"].startswith("Records of ")
            for task in following:
                task.cancel()
    account(
        f"{len(targets)} targets, {len(rules)} rules with {len(queried)} selectors, "
        f"{len(panels)} queries of panels in {len(DASHBOARDS)} dashboards: none without a result; "
        "an alert reached a webhook by Alertmanager"
    )


def test_selectors_are_found_in_queries() -> None:
    query = 'sum by (topic) (rate(tapewire_gaps_total{reason="future"}[5m])) > up{job="tapewire"}'
    assert selectors(query) == {'tapewire_gaps_total{reason="future"}', 'up{job="tapewire"}'}
    assert selectors("topic:tapewire_commands_running:sum == 0") == {
        "topic:tapewire_commands_running:sum"
    }
    assert selectors('sum by (component, job) (process_open_fds{component!="edge"})') == {
        'process_open_fds{component!="edge"}'
    }
