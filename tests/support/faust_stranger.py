"""A Faust worker of others, as in Faust's tutorials: it reads measures by Confluent's deserializer.

It knows nothing of this system but the names of two topics. What it reads of a measure, it writes
as JSON into another topic.
"""

import json
import os
import sys
from typing import Any

import faust
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from faust.serializers import codecs

from kafka_io.readiness import notify_ready

PREFIX = os.environ["TAPEWIRE_TOPIC_PREFIX"]
SERVERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(",")


class ConfluentAvro(codecs.Codec):
    """A codec of Faust by the schemas of a registry."""

    def __init__(self) -> None:
        super().__init__()
        client = SchemaRegistryClient({"url": os.environ["TAPEWIRE_SCHEMA_REGISTRY_URL"]})
        make: Any = AvroDeserializer  # its types hide its arguments
        self._deserialize = make(client)

    def _dumps(self, s: Any) -> bytes:
        raise NotImplementedError

    def _loads(self, s: bytes) -> Any:
        return self._deserialize(s, SerializationContext("", MessageField.VALUE))


def build_app() -> faust.App:
    codecs.register("confluent_avro", ConfluentAvro())
    app = faust.App(
        f"{PREFIX}stranger",
        broker=[f"kafka://{server}" for server in SERVERS],
        store="memory://",
        web_enabled=False,
        value_serializer="confluent_avro",
    )
    measures = app.topic(
        f"{PREFIX}risk.measures", key_type=bytes, value_serializer="confluent_avro"
    )
    seen = app.topic(f"{PREFIX}chat.messages", value_serializer="raw", value_type=bytes)

    @app.agent(measures)
    async def show(stream: Any) -> None:
        async for measure in stream:
            row = {"portfolio_id": measure["portfolio_id"], "days": measure["observations"]}
            await (await seen.send(value=json.dumps(row).encode()))

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(*_: object, **__: object) -> None:
        notify_ready("waiting for measures")

    return app


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker"]
    build_app().main()
