"""Traces of a running system, as a real OpenTelemetry collector has received them.

The collector is built from its Go modules, whose checksums are beside its program.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from infra.embedded_broker import free_port
from tests.conftest import World
from tests.golden.record_log import publish_returns
from tests.support.clients import stream
from tests.support.spans import Spans, collected_spans
from tests.support.sse import Block

pytestmark = [
    pytest.mark.infra,
    pytest.mark.kafka,
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "build" / "infra" / "collector"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLERS_TRACE = CALLER.split("-")[1]
DAYS = 60

_CONFIG = """\
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:{receives}
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:{passes_on}
    encoding: json
    compression: none
    sending_queue:
      enabled: false
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [otlp_http]
"""


@dataclass
class Collector:
    """A collector, and the spans that have come through it."""

    endpoint: str
    spans: list[dict[str, Any]] = field(default_factory=list)
    """Each as OTLP has it in JSON, with its `service`."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def named(self, name: str, **attributes: object) -> list[dict[str, Any]]:
        """Return the spans of a name that have some attributes."""
        return [
            span
            for span in self.spans
            if span["name"] == name and attributes.items() <= attributes_of(span).items()
        ]

    async def until(self, found: Callable[[], Sequence[dict[str, Any]]]) -> dict[str, Any]:
        """Wait for a span, and return the first one."""
        async with asyncio.timeout(60):
            while not (spans := found()):
                self.arrived.clear()
                await self.arrived.wait()
        return spans[0]

    async def receive(self, request: web.Request) -> web.Response:
        """Take what the collector passes on."""
        for of_resource in (await request.json())["resourceSpans"]:
            service = attributes_of(of_resource["resource"])["service.name"]
            for of_scope in of_resource["scopeSpans"]:
                self.spans += [{"service": service, **span} for span in of_scope["spans"]]
        self.arrived.set()
        return web.json_response({})


def attributes_of(span: dict[str, Any]) -> dict[str, object]:
    """Return the attributes of a span, or of a resource."""
    return {pair["key"]: next(iter(pair["value"].values())) for pair in span.get("attributes", ())}


def links_of(span: dict[str, Any]) -> set[tuple[str, str]]:
    return {(link["traceId"], link["spanId"]) for link in span.get("links", ())}


def has_ended(block: Block) -> bool:
    return block.data is not None and block.json.get("status") in ("SUCCESS", "FAILURE")


@pytest.fixture(scope="module")
def program() -> Path:
    """The collector's program, built once into the folder `build`."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed; the collector is built from its modules")
    subprocess.run(
        [go, "build", "-o", str(PROGRAM), "."],
        cwd=Path(__file__).parent / "collector",
        env=os.environ | {"GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"},
        check=True,
    )
    return PROGRAM


@asynccontextmanager
async def running(program: Path, folder: Path) -> AsyncGenerator[Collector]:
    """Run a collector, and receive what it passes on."""
    receives, passes_on = free_port(), free_port()
    collector = Collector(f"http://127.0.0.1:{receives}")
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/traces", collector.receive)
    sink = web.AppRunner(app, access_log=None)
    await sink.setup()
    await web.TCPSite(sink, "127.0.0.1", passes_on).start()
    config = folder / "collector.yaml"
    config.write_text(_CONFIG.format(receives=receives, passes_on=passes_on))
    with (folder / "collector.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(program), "--config", f"file:{config}", stderr=log
        )
        try:
            async with asyncio.timeout(30), httpx.AsyncClient() as client:
                while True:
                    assert process.returncode is None, (folder / "collector.log").read_text()
                    try:
                        await client.post(f"{collector.endpoint}/v1/traces", json={})
                    except httpx.TransportError:
                        await asyncio.sleep(0.1)  # it says nothing when it listens
                    else:
                        break
            yield collector
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await sink.cleanup()


@pytest.fixture
async def collector(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Collector]:
    async with running(program, tmp_path) as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield found


@pytest.fixture
def producer(collector: Collector) -> Iterator[Spans]:
    """Lets this process, which produces, export its spans as well."""
    with collected_spans() as spans:
        exporter = OTLPSpanExporter(f"{collector.endpoint}/v1/traces")
        spans.provider.add_span_processor(BatchSpanProcessor(exporter))
        yield spans
        spans.provider.shutdown()


async def test_a_measure_is_followed_from_its_event_back_to_the_span_of_the_producer(
    world: World, collector: Collector, producer: Spans, account: Callable[[str], None]
) -> None:
    async with asyncio.TaskGroup() as starting:
        edge = starting.create_task(world.edge())
        starting.create_task(world.worker(batch_within_s=0.05, log_format="json"))
    await publish_returns(world.producer_settings, range(DAYS))
    path = "/api/v1/sse/measures"
    async with stream(edge.result().url, path, since="earliest", traceparent="data") as client:
        (event, *_) = await client.events("risk_measure", 1)
    _, trace_id, span_id, _ = event.json["traceparent"].split("-")

    returns = world.topic("portfolio.returns")
    judged = await collector.until(
        lambda: [
            span
            for span in collector.named(f"process {returns}")
            if (span["traceId"], span["spanId"]) == (trace_id, span_id)
        ]
    )
    assert judged["service"] == "tapewire-processors"
    attributes = attributes_of(judged)
    assert attributes["messaging.system"] == "kafka"
    assert attributes["messaging.operation.type"] == "process"
    assert attributes["messaging.consumer.group.name"] == world.topic("tapewire")
    sent = {
        (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")
        for span in producer.all
        if span.context is not None and span.name == f"send {returns}"
    }
    assert links_of(judged)
    assert links_of(judged) <= sent
    opened = await collector.until(lambda: collector.named(f"GET {path}"))
    assert opened["service"] == "tapewire-edge"
    assert attributes_of(opened)["tapewire.stream.start"] == "earliest"
    account(
        f"{len(sent)} spans of a producer, {len(collector.named(f'process {returns}'))} rounds, "
        f"and a measure that links to {len(links_of(judged))} of the spans"
    )


async def test_a_training_is_one_trace_from_the_request_to_its_events(
    world: World, collector: Collector, account: Callable[[str], None]
) -> None:
    async with asyncio.TaskGroup() as starting:
        edge = starting.create_task(world.edge())
        starting.create_task(world.trainer())
        starting.create_task(world.worker())
    async with httpx.AsyncClient(base_url=edge.result().url, timeout=30) as client:
        wanted = {"meter_id": "m1", "meter_type": "gas"}
        headers = {"traceparent": CALLER}
        answer = await client.post("/trainmodel/", json=wanted, headers=headers)
    task_id = answer.raise_for_status().json()["task_id"]
    path = f"/trainmodel/stream/{task_id}"
    async with stream(edge.result().url, path, since="earliest", traceparent="data") as client:
        blocks = await client.until(lambda blocks: any(map(has_ended, blocks)))
    assert blocks[-1].json["traceparent"].split("-")[1] == CALLERS_TRACE

    commands, events = world.topic("training.commands"), world.topic("training.events")
    done = await collector.until(lambda: collector.named(f"process {commands}"))
    asked = await collector.until(lambda: collector.named(f"send {commands}"))
    await collector.until(lambda: collector.named(f"send {events}")[5:])
    assert (asked["service"], asked["parentSpanId"]) == ("tapewire-edge", CALLER.split("-")[2])
    assert (done["service"], done["parentSpanId"]) == ("tapewire-trainer", asked["spanId"])
    assert links_of(done) == {(CALLERS_TRACE, asked["spanId"])}
    sent = collector.named(f"send {events}")
    reports = [span for span in sent if span["service"] == "tapewire-trainer"]
    assert {span["parentSpanId"] for span in reports} == {done["spanId"]}
    assert {span["traceId"] for span in (asked, done, *sent)} == {CALLERS_TRACE}
    account(f"one trace of a request, its command and {len(reports)} events")
