from pathlib import Path

import httpx
import pytest

from infra.demo_issuer import ISSUER, jwks_path, token
from producers.broadcaster import SSEBroadcaster
from schemas.instants import to_rfc3339
from sse_edge import app
from sse_edge.app import build_api
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.settings import EdgeSettings
from tapewire import __version__
from tests.conftest import World
from tests.support.clients import stream

pytestmark = pytest.mark.kafka

TRAINING = "/api/v1/sse/training"


async def test_the_wire_contract_of_a_stream(world: World) -> None:
    edge = await world.edge()
    async with (
        stream(edge.url, TRAINING, client_id="me") as client,
        SSEBroadcaster(world.producer_settings) as reporter,
    ):
        headers = client.response.headers
        assert client.response.status_code == 200
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["transfer-encoding"] == "chunked"
        await client.until(lambda blocks: len(blocks) >= 2)
        opening = client.blocks[0]
        assert opening.inner == {
            "client_id": "me",
            "channel": "training",
            "message": "Connected to training channel",
        }
        await reporter.send_training_progress(
            "t-1", 45.5, "running", "epoch \r\n\u2028\x00 5", {"loss": 0.25, "accuracy": 0.9}
        )
        [event] = await client.events("training_progress", 1)
        assert set(event.json) == {"event", "data", "timestamp"}
        assert event.inner == {
            "task_id": "t-1",
            "progress": 45.5,
            "status": "running",
            "message": "epoch \r\n\u2028\x00 5",
            "metrics": {"loss": 0.25, "accuracy": 0.9},
        }

        async with httpx.AsyncClient(base_url=edge.url) as http:
            status = (await http.get("/api/v1/sse/status")).json()
        assert status["status"] == "active"
        assert status["total_connections"] == 1
        assert status["channels"]["training"] == {"connection_count": 1, "clients": ["me"]}
        assert status["channels"]["alerts"] == {"connection_count": 0, "clients": []}


async def test_every_call_of_the_reporter_reaches_its_channel(world: World) -> None:
    edge = await world.edge()
    topics = ["training", "backtest", "alerts", "dashboard"]
    async with (
        stream(edge.url, "/api/v1/sse/streams", topic=topics) as client,
        SSEBroadcaster(world.producer_settings) as reporter,
    ):
        await client.until(lambda blocks: len(blocks) >= 2)
        await reporter.send_training_progress("t", 1, "started")
        await reporter.send_backtest_progress("b", 2, "running", "m", "2008-10-10", {"trades": 3})
        await reporter.send_risk_alert("margin", "low", "m", "used", 0.9, 0.8, "desk", "rates")
        await reporter.send_dashboard_update({"jobs": 4}, "ops")
        await client.until(lambda blocks: len(blocks) >= 6)
    streams = {block.event: block.json["stream"] for block in client.blocks[2:]}
    assert streams.pop("dashboard_update").startswith("dashboard:")
    assert streams == {
        "training_progress": "training:t",
        "backtest_progress": "backtest:b",
        "risk_alert": "alerts:rates",
    }
    found = {block.event: block.inner for block in client.blocks[2:]}
    assert found["training_progress"]["status"] == "started"
    assert found["backtest_progress"]["current_date"] == "2008-10-10"
    assert found["backtest_progress"]["results"] == {"trades": 3.0}
    assert found["risk_alert"]["entity_id"] == "rates"
    assert found["risk_alert"]["state"] == "raised"
    assert found["dashboard_update"]["jobs"] == 4


async def test_a_client_resumes_by_header_and_by_parameter_and_the_header_wins(
    world: World,
) -> None:
    edge = await world.edge()
    async with SSEBroadcaster(world.producer_settings) as reporter:
        for percent in range(5):
            await reporter.send_training_progress("t", percent, "running")
        async with stream(edge.url, TRAINING, since="earliest") as client:
            ids = [block.id or "" for block in await client.events("training_progress", 5)]

    async def rest(**how: object) -> list[float]:
        headers = how.pop("headers", None)
        async with stream(edge.url, TRAINING, headers=headers, **how) as again:  # type: ignore[arg-type]
            events = await again.events("training_progress", 1)
            return [block.inner["progress"] for block in events][:1]

    assert await rest(headers={"Last-Event-ID": ids[1]}) == [2.0]
    assert await rest(last_event_id=ids[2]) == [3.0]
    assert await rest(headers={"Last-Event-ID": ids[0]}, last_event_id=ids[3]) == [1.0]
    assert await rest(headers={"Last-Event-ID": ""}, last_event_id=ids[3]) == [4.0]
    assert await rest(headers={"Last-Event-ID": f"{ids[0]}, {ids[2]}"}) == [3.0]


async def test_a_stream_begins_at_a_moment(world: World) -> None:
    edge = await world.edge()
    async with SSEBroadcaster(world.producer_settings) as reporter:
        for percent in range(50):
            await reporter.send_training_progress("t", percent, "running")
    async with stream(edge.url, TRAINING, since=to_rfc3339(0)) as client:
        everything = await client.events("training_progress", 50)
    stamps = [block.json["timestamp"] for block in everything]
    assert len(set(stamps)) > 2
    moment = stamps[25]
    first = stamps.index(moment)  # of those that share its millisecond
    async with stream(edge.url, TRAINING, since=moment.replace("Z", "+00:00")) as client:
        later = await client.events("training_progress", 50 - first)
    assert [block.inner["progress"] for block in later] == list(range(first, 50))


async def test_a_finished_stream_ends_and_a_client_that_reconnects_gets_204(
    world: World,
) -> None:
    edge, other = await world.edge(), await world.edge()
    async with (
        stream(edge.url, TRAINING, task_id="t") as client,
        SSEBroadcaster(world.producer_settings) as reporter,
    ):
        await client.until(lambda blocks: len(blocks) >= 2)
        await reporter.send_training_progress("t", 50, "running")
        await reporter.send_training_progress("t", 100, "completed")
        events = [block for block in await client.to_end() if block.event == "training_progress"]
        assert [block.inner["status"] for block in events] == ["running", "completed"]
    async with httpx.AsyncClient(base_url=other.url) as http:
        done = {"Last-Event-ID": events[1].id or ""}
        answer = await http.get(TRAINING, params={"task_id": "t"}, headers=done)
        assert answer.status_code == 204
    async with stream(other.url, TRAINING, task_id="t", last_event_id=events[0].id) as again:
        replayed = [block for block in await again.to_end() if block.event == "training_progress"]
        assert [block.inner["status"] for block in replayed] == ["completed"]


WRONG: list[tuple[str, dict[str, str], int, str]] = [
    ("/training?from=yesterday", {}, 400, "from: 'yesterday' is neither earliest nor latest"),
    ("/training?from=2008-10-10T00:00:00", {}, 400, "from: '2008-10-10T00:00:00' is neither"),
    ("/training?last_event_id=nonsense!", {}, 400, "cursor"),
    ("/training", {"Last-Event-ID": "AAAA"}, 400, "cursor"),
    ("/alerts?task_id=t", {}, 400, "task_id: the alerts channel is filtered by entity_id"),
    ("/alerts?events=nope", {}, 400, "events: 'nope' is no event of this stream"),
    ("/alerts?on_gap=cry", {}, 400, "on_gap: 'cry' is not one of continue, close"),
    ("/alerts?client_id=" + "x" * 257, {}, 400, "client_id: it has 257 characters"),
    ("/alerts?slow=never", {}, 400, "slow: 'never' is not one of pause, conflate, close"),
    ("/alerts?heartbeat=0.1", {}, 400, "heartbeat: '0.1' is no whole number of seconds from 1"),
    ("/alerts?slow=conflate", {}, 400, "slow: every event of alerts counts"),
    ("/streams", {}, 400, "topic: name at least one stream"),
    ("/streams?topic=weather", {}, 400, "topic: 'weather' is no stream"),
    ("/alerts", {"Accept": "application/json"}, 406, "text/event-stream"),
    ("/nothing", {}, 404, ""),
]


async def test_refusals_are_problem_json(world: World) -> None:
    edge = await world.edge()
    async with httpx.AsyncClient(base_url=edge.url) as http:
        for path, headers, status, named in WRONG:
            answer = await http.get(f"/api/v1/sse{path}", headers=headers)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
            assert named in answer.json().get("detail", ""), path


async def test_metrics_say_what_was_sent_and_what_refused(world: World) -> None:
    edge = await world.edge()
    async with (
        stream(edge.url, TRAINING) as client,
        SSEBroadcaster(world.producer_settings) as reporter,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        await client.until(lambda blocks: len(blocks) >= 2)
        await reporter.send_training_progress("t", 1, "running")
        await client.events("training_progress", 1)
        await http.get(TRAINING, headers={"Last-Event-ID": "AAAA"})
        answer = await http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        lines = answer.text.splitlines()
    for line in (
        'tapewire_connections{dialect="mystocks",stream="training"} 1.0',
        'tapewire_events_sent_total{stream="training"} 1.0',
        'tapewire_streams_opened_total{start="latest"} 1.0',
        'tapewire_refused_total{status="400"} 1.0',
        'tapewire_delivery_lag_seconds_count{stream="training"} 1.0',
        "tapewire_kafka_connected 1.0",
        f'tapewire_partition_connected{{partition="0",topic="{world.prefix}training.events"}} 1.0',
    ):
        assert line in lines, line


async def test_compression_is_for_those_who_ask(world: World) -> None:
    edge = await world.edge()
    for asked, given in (("gzip, br", "gzip"), ("br", None), ("gzip;q=0, identity", None)):
        async with stream(edge.url, TRAINING, headers={"Accept-Encoding": asked}) as client:
            await client.until(lambda blocks: len(blocks) >= 2)
            assert client.response.headers.get("content-encoding") == given


async def test_a_cursor_of_another_stream_is_refused(world: World) -> None:
    edge = await world.edge()
    async with stream(edge.url, TRAINING) as client:
        await client.until(lambda blocks: len(blocks) >= 2)
    async with httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.get("/api/v1/sse/alerts", headers={"Last-Event-ID": client.last_id})
        assert answer.status_code == 400
        assert "belongs to another stream" in answer.json()["detail"]


async def test_other_methods(world: World) -> None:
    edge = await world.edge()
    async with httpx.AsyncClient(base_url=edge.url) as http:
        head = await http.head(TRAINING)
        assert head.status_code == 200
        assert head.headers["content-type"] == "text/event-stream"
        post = await http.post(TRAINING)
        assert post.status_code == 405
        assert post.headers["content-type"] == "application/problem+json"
        assert (await http.get("/openapi.json")).json()["paths"]["/api/v1/sse/alerts"]["get"]


async def test_one_address_holds_a_bounded_number_of_connections(world: World) -> None:
    edge = await world.edge(connections_per_ip_max=2)
    async with stream(edge.url, TRAINING) as one, stream(edge.url, TRAINING) as two:
        await one.more()
        await two.more()
        async with httpx.AsyncClient(base_url=edge.url) as http:
            refused = await http.get(TRAINING)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert "holds 2 connections" in refused.json()["detail"]


async def test_pages_of_listed_origins_may_read(world: World) -> None:
    edge = await world.edge(cors_origins="https://desk.example")
    async with httpx.AsyncClient(base_url=edge.url) as http:
        ours = await http.head(TRAINING, headers={"Origin": "https://desk.example"})
        assert ours.headers["access-control-allow-origin"] == "https://desk.example"
        other = await http.head(TRAINING, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_an_edge_describes_itself_without_a_token(world: World, tmp_path: Path) -> None:
    text = "real prices, replayed"
    edge = await world.edge(notice=text, jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path))
    async with httpx.AsyncClient(base_url=edge.url) as http:
        about = await http.get("/api/v1/about")
        headers = {"Authorization": f"Bearer {token(tmp_path, 'alice', None, 60)}"}
        metrics = await http.get("/metrics", headers=headers)
    assert about.json() == {"version": __version__, "notice": text}
    assert "tapewire_jwks_failing 0.0" in metrics.text.splitlines()


async def test_a_node_that_says_it_is_ready_serves_streams(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EdgeSettings(
        bootstrap_servers=world.kafka.bootstrap_servers, topic_prefix=world.prefix
    )
    api = build_api(settings, FairQueue())
    reasons: list[object] = []
    monkeypatch.setattr(
        app, "notify_ready", lambda _: reasons.append(api.state.node.unavailable_for)
    )
    async with api.router.lifespan_context(api):
        pass
    assert reasons == [None]


async def test_without_a_broker_the_node_lives_and_says_so(world: World) -> None:
    edge = await world.edge()
    nowhere = World(type(world.kafka)("localhost:1"), world.prefix, world.folder, world.stack)
    lonely = await nowhere.edge(broker_patience_s=0.2)
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{lonely.url}/health/live")).status_code == 200
        assert (await http.get(f"{lonely.url}/health/ready")).status_code == 503
        plain = await http.get(f"{lonely.url}{TRAINING}", headers={"Accept": "*/*"})
        assert plain.status_code == 503
        assert plain.headers["retry-after"]
        assert (await http.get(f"{edge.url}/health/live")).status_code == 200
    async with stream(lonely.url, TRAINING) as client:
        _, error = await client.to_end()
        assert (error.event, error.inner["reason"], error.id) == ("error", "no_broker", None)
        assert error.retry_ms is not None
