"""A registry that is reached by TLS, and lets nobody pass without a password or a token."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import header_schema_id_serializer

from kafka_io.errors import RegistryUnavailable
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from kafka_io.subjects import canonical_text
from schemas.codec import versions
from tests.conftest import World
from tests.support.apicurio import Apicurio
from tests.support.certificates import Authority
from tests.support.clients import stream
from tests.support.outsiders import Outsider
from tests.support.registry_gateway import Gateway, gateway_to

pytestmark = [pytest.mark.analytics, pytest.mark.kafka, pytest.mark.timeout(400)]

ACK = canonical_text(versions("AlertAck")[-1])


@pytest.fixture(name="gateway")
def _gateway(apicurio: Apicurio, authority: Authority) -> Iterator[Gateway]:
    identity = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with gateway_to(apicurio.url, context) as gateway:
        yield gateway


def registry_at(url: str, **settings: Any) -> SchemaRegistry:
    return SchemaRegistry(SchemaRegistrySettings(url=url, **settings))


def test_the_registrys_own_tls_is_checked_by_the_authority_that_is_named(
    apicurio: Apicurio, authority: Authority, tmp_path: Path
) -> None:
    subject = f"{uuid4().hex}-value"
    with registry_at(apicurio.tls_url, ca_file=authority.file) as registry:
        number = registry.register(subject, ACK)
        assert [known.id for known in registry.registered(subject)] == [number]
    for settings in ({}, {"ca_file": Authority(tmp_path).file}):
        with (
            registry_at(apicurio.tls_url, **settings) as registry,
            pytest.raises(RegistryUnavailable, match="certificate verify failed"),
        ):
            registry.subjects()


def test_a_password_and_a_token_that_is_renewed_pass_and_others_are_named(
    gateway: Gateway, authority: Authority, tmp_path: Path
) -> None:
    gateway.accept_user("desk", "s:e:c")
    subject, token = f"{uuid4().hex}-value", tmp_path / "token"
    trusted: dict[str, Any] = {"ca_file": authority.file}
    right, wrong = ({"username": "desk", "password": text} for text in ("s:e:c", "wrong"))
    with registry_at(gateway.url, **right, **trusted) as registry:
        number = registry.register(subject, ACK)
    with registry_at(gateway.url, **wrong, **trusted) as registry:
        with pytest.raises(RegistryUnavailable, match="answers 401") as refused:
            registry.subjects()
        assert "wrong" not in str(refused.value)
    with registry_at(gateway.url, token_file=token_in(token, "first"), **trusted) as registry:
        gateway.accept_only("first")
        assert registry.find_id(subject, ACK) == number
        gateway.accept_only("second")
        with pytest.raises(RegistryUnavailable, match="answers 401"):
            registry.fetch(b"\0" + number.to_bytes(4))
        token_in(token, "second")
        assert json.loads(registry.fetch(b"\0" + number.to_bytes(4))) == json.loads(ACK)


def token_in(path: Path, token: str) -> Path:
    path.write_text(f"{token}\n", encoding="utf-8")
    return path


async def test_a_part_reads_values_whose_header_has_a_guid_through_a_guarded_registry(
    world: World, gateway: Gateway, authority: Authority, tmp_path: Path
) -> None:
    gateway.accept_user("edge", "secret-of-the-edge")
    gateway.accept_user("desk", "secret-of-the-desk")
    password = token_in(tmp_path / "password", "secret-of-the-edge")
    schema = json.loads(json.dumps(versions("TrainingProgress")[-1])) | {"namespace": "desk"}
    progress = {
        "task_id": "t",
        "progress": 12.5,
        "status": "running",
        "message": "by header",
        "metrics": {"loss": 0.5},
        "event_time_us": 1_700_000_000_000_000,
    }
    edge = await world.edge(
        schema_registry_url=gateway.url,
        schema_registry_ca_file=authority.file,
        schema_registry_username="edge",
        schema_registry_password_file=password,
    )
    with Outsider(
        world.kafka.bootstrap_servers,
        gateway.url,
        ssl_ca_location=str(authority.file),
        basic_auth_user_info="desk:secret-of-the-desk",
    ) as outsider:
        how: Any = {"schema_id_serializer": header_schema_id_serializer}
        async with stream(edge.url, "/api/v1/sse/training", since="earliest") as client:
            topic = world.topic("training.events")
            await asyncio.to_thread(outsider.send, topic, schema, progress, "t", **how)
            await client.until(
                lambda blocks: any("by header" in (block.data or "") for block in blocks)
            )
    assert any("/schemas/guids/" in request for request in gateway.requests)
