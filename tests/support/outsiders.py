"""Programs of others at a schema registry: Confluent's serializers, and readers in Go and Java."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.support.foreign import java

_ROOT = Path(__file__).parents[2]
_JAVA_READER = _ROOT / "tests" / "java" / "ConfluentReader.java"


class Outsider:
    """A program that knows the registry, and nothing of this system."""

    def __init__(self, bootstrap_servers: str, registry_url: str, **security: str) -> None:
        """Make a program.

        Args:
            bootstrap_servers: where Kafka is.
            registry_url: where the registry is.
            security: settings of its client, with `_` in place of each dot.
        """
        more = {name.replace("_", "."): value for name, value in security.items()}
        self._client = SchemaRegistryClient({"url": registry_url} | more)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random"}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(30)
        self._client.close()

    def framed(
        self, topic: str, schema: Mapping[str, Any], event: Mapping[str, Any], **how: Any
    ) -> tuple[bytes, list[tuple[str, Any]]]:
        """Return an event as Confluent's serializer writes it, with its headers.

        Args:
            topic: the topic.
            schema: the program's own schema, which is registered where it is new.
            event: the fields that have a value.
            how: the serializer's settings.
        """
        settings = {name.replace("_", "."): value for name, value in how.items()}
        # A subject of its own: the schemas of a program need not be versions of ours.
        settings["subject.name.strategy"] = lambda context, name: f"{context.topic}-of-{name}"
        make: Any = AvroSerializer  # its types hide its arguments
        serialize = make(self._client, json.dumps(schema), conf=settings)
        headers: list[tuple[str, Any]] = []
        context = SerializationContext(topic, MessageField.VALUE, headers=headers)
        return serialize(dict(event), context), headers

    def send(
        self,
        topic: str,
        schema: Mapping[str, Any],
        event: Mapping[str, Any],
        key: str | None = None,
        partition: int = -1,
        **how: Any,
    ) -> None:
        """Write an event as `framed` returns it, and wait until Kafka has it."""
        value, headers = self.framed(topic, schema, event, **how)
        self._producer.produce(topic, value, key, partition, headers=headers)
        assert self._producer.flush(30) == 0

    def read(self, topic: str, value: bytes) -> Any:
        """Return a value as Confluent's deserializer reads it."""
        make: Any = AvroDeserializer  # as above
        return make(self._client)(value, SerializationContext(topic, MessageField.VALUE))


def read_by_go(registry_url: str, values: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return values in Confluent's framing as hamba/avro reads them."""
    return _read_by((str(_go_reader()), registry_url), values)


def read_by_java(registry_url: str, values: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return values in Confluent's framing as Apache Avro's reader for Java reads them."""
    return _read_by((*java(_JAVA_READER), registry_url), values)


def _read_by(command: Sequence[str], values: Sequence[bytes]) -> list[dict[str, Any]]:
    lines = "".join(f"{value.hex()}\n" for value in values)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@cache
def _go_reader() -> Path:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    assert go is not None, "this needs Go; Debian's package is golang-go"
    binary = _ROOT / "build" / "analytics" / "confluent-reader"
    done = subprocess.run(
        [go, "build", "-o", str(binary), "."],
        cwd=_ROOT / "tests" / "go" / "confluent_reader",
        env=os.environ | {"GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return binary
