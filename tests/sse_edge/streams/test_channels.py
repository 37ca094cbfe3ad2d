import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from infra.supervisor import Part, Process
from sse_edge.streams.channels import CHANNELS, Channel, ChannelTable
from sse_edge.streams.dialects import mystocks
from tests.conftest import World
from tests.support.clients import stream

ROOT = Path(__file__).parents[3]

TIDES = """
import asyncio
from dataclasses import dataclass
from pathlib import Path

from infra.topics import provision
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from schemas.topics import REGISTRY, Topic
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.dialect import Rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class TideMeasured:
    station: str
    height_m: float
    event_time_us: int


TOPIC = Topic("tide.events", TideMeasured, "station", 3_600_000)
REGISTRY.register(TOPIC, Path(__file__).parent)


def tide(event):
    return Rendered("tide", {"station": event.station, "height_m": event.height_m})


EXAMPLE = TideMeasured(station="Dover", height_m=6.5, event_time_us=1_223_596_800_000_000)
CHANNELS.add(
    Channel(
        "tides", TOPIC, tide, [EXAMPLE], entity_parameters=("station",), entity_field="station"
    )
)


async def publish() -> None:
    settings = ProducerSettings()
    provision(settings.bootstrap_servers, prefix=settings.topic_prefix, topics=[TOPIC])
    async with Publisher(settings) as publisher:
        await publisher.publish(EXAMPLE)
        await publisher.publish(
            TideMeasured(station="Brest", height_m=7.25, event_time_us=EXAMPLE.event_time_us)
        )


if __name__ == "__main__":
    asyncio.run(publish())
"""

SCHEMA = {
    "type": "record",
    "name": "TideMeasured",
    "namespace": "tides",
    "fields": [
        {"name": "station", "type": "string"},
        {"name": "height_m", "type": "double"},
        {"name": "event_time_us", "type": "long"},
    ],
}


@pytest.mark.kafka
async def test_a_channel_of_another_package_is_one_row_and_is_served(
    world: World, tmp_path: Path
) -> None:
    package = tmp_path / "tides"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "events.py").write_text(TIDES)
    (package / "1.avsc").write_text(json.dumps(SCHEMA))
    env = {
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
        "TAPEWIRE_PORT": "0",
    }
    program = "import tides.events; from sse_edge.__main__ import main; main()"
    edge = Process(Part("edge", (sys.executable, "-c", program), env), tmp_path / "edge.log")
    publish = (sys.executable, "-m", "tides.events")
    subprocess.run(publish, env=env, check=True, timeout=60, cwd=tmp_path)
    try:
        url = await edge.start()
        async with stream(url, "/api/v1/sse/tides", since="earliest") as client:
            tides = await client.events("tide", 2)
        assert sorted(block.inner["station"] for block in tides) == ["Brest", "Dover"]
        async with stream(url, "/api/v1/sse/tides", since="earliest", station="Dover") as client:
            (tide,) = await client.events("tide", 1)
        assert tide.inner == {"station": "Dover", "height_m": 6.5}
        async with stream(
            url, "/api/v1/sse/streams", since="earliest", topic="tides:Brest"
        ) as client:
            (tide,) = await client.events("tide", 1)
        assert tide.json["stream"] == "tides:Brest"
        async with httpx.AsyncClient(base_url=url) as http:
            status = (await http.get("/api/v1/sse/status")).json()
            openapi = (await http.get("/openapi.json")).json()
        assert "tides" in status["channels"]
        described = openapi["paths"]["/api/v1/sse/tides"]["get"]["responses"]["200"]
        assert "Dover" in json.dumps(described)
    finally:
        await edge.stop()


def test_a_name_has_one_channel() -> None:
    table = ChannelTable()
    table.add(CHANNELS["alerts"])
    with pytest.raises(ValueError, match="a channel alerts exists already"):
        table.add(CHANNELS["alerts"])


def test_a_channel_of_another_dialect_has_no_endpoint_of_its_own() -> None:
    table = ChannelTable()
    table.add(CHANNELS["alerts"])
    table.add(CHANNELS["chat"])
    assert list(table) == ["alerts", "chat"]
    assert list(table.mystocks) == ["alerts"]
    assert table.mystocks_parameters == ("entity_id",)


def test_every_channel_is_found_by_its_key_in_either_dialect() -> None:
    rows: list[Channel] = [*CHANNELS.values(), *CHANNELS.in_many.values()]
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        assert CHANNELS.by_key(row.key) is row


def test_the_names_of_events_are_those_of_the_examples() -> None:
    channel = replace(CHANNELS["alerts"], dialect=mystocks.MYSTOCKS)
    assert channel.events == {"risk_alert"}
    assert CHANNELS["trainmodel"].events == {
        "PENDING",
        "FETCHING_DATA",
        "TRAINING_MODEL",
        "SAVING_MODEL",
        "SUCCESS",
        "FAILURE",
    }
    assert CHANNELS["chat"].events == {"join", "message", "leave"}
