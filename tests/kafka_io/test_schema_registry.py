"""The client of a schema registry: what it asks, how it authenticates, and what it refuses."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from kafka_io.errors import InvalidSetting, RegistryUnavailable, SchemaUnknown
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from tests.support.certificates import Authority
from tests.support.fake_registry import FakeRegistry, fake_registry, guid_of

TEXT = '{"type":"record","name":"X","fields":[]}'
NAME = "TAPEWIRE_SCHEMA_REGISTRY_"


@pytest.fixture(name="known")
def _known() -> Iterator[FakeRegistry]:
    with fake_registry() as known:
        yield known


def client(known: FakeRegistry, **settings: Any) -> SchemaRegistry:
    return SchemaRegistry(SchemaRegistrySettings(url=known.url, **settings))


def id_of(number: int) -> bytes:
    return b"\0" + number.to_bytes(4)


def test_a_schema_is_fetched_by_its_id_and_by_its_guid(known: FakeRegistry) -> None:
    number = known.add(TEXT)
    assert client(known).fetch(id_of(number)) == TEXT
    assert client(known).fetch(b"\1" + UUID(guid_of(TEXT)).bytes) == TEXT


def test_a_schema_that_is_not_there_or_not_of_avro_is_named(known: FakeRegistry) -> None:
    known.lies = {
        7: {"schema": "syntax", "schemaType": "PROTOBUF"},
        8: {"schema": TEXT, "references": [{"name": "Y", "subject": "y", "version": 1}]},
    }
    registry = client(known)
    with pytest.raises(SchemaUnknown, match=r"^is not known there \(Schema not found\)$"):
        registry.fetch(id_of(1))
    with pytest.raises(SchemaUnknown, match="is of type PROTOBUF"):
        registry.fetch(id_of(7))
    with pytest.raises(SchemaUnknown, match=r"refers to other schemas \(Y\)"):
        registry.fetch(id_of(8))


def test_a_registry_that_is_away_or_is_none_is_named(known: FakeRegistry) -> None:
    known.lies = {7: b"<html>", 8: {"greeting": "hello"}}
    registry = client(known)
    for number in known.lies:
        with pytest.raises((RegistryUnavailable, SchemaUnknown)):
            registry.fetch(id_of(number))
    known.is_away = True
    with pytest.raises(RegistryUnavailable, match=f"at {known.url} answers 503: away"):
        registry.fetch(id_of(1))
    gone = SchemaRegistry(SchemaRegistrySettings(url="http://127.0.0.1:1"))
    with pytest.raises(RegistryUnavailable, match=r"at http://127\.0\.0\.1:1 cannot be asked"):
        gone.fetch(id_of(1))


def test_subjects_are_registered_found_and_listed(known: FakeRegistry) -> None:
    registry = client(known)
    assert registry.registered("a-value") == ()
    assert registry.find_id("a-value", TEXT) is None
    assert registry.compatibility("a-value") is None
    number = registry.register("a-value", TEXT)
    registry.set_compatibility("a-value", "FULL_TRANSITIVE")
    assert registry.find_id("a-value", TEXT) == number
    assert [tuple(schema) for schema in registry.registered("a-value")] == [(number, 1, TEXT)]
    assert registry.compatibility("a-value") == "FULL_TRANSITIVE"
    assert registry.subjects() == {"a-value"}


def test_a_user_authenticates_by_a_password_in_a_file(known: FakeRegistry, tmp_path: Path) -> None:
    known.expect_user("ada", "s:e:c")
    (tmp_path / "password").write_text("s:e:c\n")
    number = known.add(TEXT)
    registry = client(known, username="ada", password_file=tmp_path / "password")
    assert registry.fetch(id_of(number)) == TEXT
    with pytest.raises(RegistryUnavailable, match="answers 401: Unauthorized"):
        client(known).fetch(id_of(number))


def test_a_bearer_token_is_read_again_for_each_request(known: FakeRegistry, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    registry = client(known, token_file=path)
    known.authorization = "Bearer first"
    first = known.add(TEXT)
    assert registry.fetch(id_of(first)) == TEXT
    path.write_text("second")
    known.authorization = "Bearer second"
    second = known.add("{}")
    assert registry.fetch(id_of(second)) == "{}"


def test_tls_checks_the_registry_and_shows_the_clients_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, ours = authority.server("127.0.0.1"), authority.client("ada")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    with fake_registry(context) as known:
        number = known.add(TEXT)
        registry = client(
            known, ca_file=authority.file, certificate_file=ours.certificate, key_file=ours.key
        )
        assert registry.fetch(id_of(number)) == TEXT
        with pytest.raises(RegistryUnavailable, match="certificate"):
            client(known).fetch(id_of(number))


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no registry": ({"url": None, "wire": "confluent"}, "TAPEWIRE_WIRE is confluent, which needs"),
    "no address": ({"url": "registry:8081"}, "must begin with http"),
    "a user in it": ({"url": "https://ada:x@registry"}, f"set {NAME}USERNAME"),
    "no password": ({"username": "ada"}, "basic authentication needs"),
    "no user": ({"password": "x"}, "basic authentication needs"),
    "two passwords": ({"password": "x", "password_file": "y"}, "PASSWORD_FILE are both set"),
    "two tokens": ({"token": "x", "token_file": "y"}, "TOKEN_FILE are both set"),
    "two ways": ({"username": "ada", "password": "x", "token": "y"}, "a bearer token are both set"),
    "a colon": ({"username": "a:b", "password": "x"}, "USERNAME has a colon"),
    "no key": ({"certificate_file": "c.pem"}, "KEY_FILE need each other"),
}


@pytest.mark.parametrize(("given", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(given: Any, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        SchemaRegistrySettings(**{"url": "https://registry", **given})


def test_a_file_that_is_missing_is_refused_before_any_request(tmp_path: Path) -> None:
    given: Any
    for given in ({"ca_file": tmp_path / "missing"}, {"token_file": tmp_path / "missing"}):
        settings = SchemaRegistrySettings(url="https://registry", **given)
        with pytest.raises(InvalidSetting, match="cannot be used"):
            SchemaRegistry(settings)


def test_a_password_on_an_open_network_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    given: Any = {"token": "t"}
    SchemaRegistry(SchemaRegistrySettings(url="http://registry", **given))
    assert "everybody on the network can read" in caplog.text
    assert "http://registry" not in caplog.text


def test_a_client_without_a_registry_imports_nothing_of_it() -> None:
    code = (
        "import sys; from kafka_io import client; client.check_framing(); "
        "sys.exit(any('schema_registry' in name and 'confluent' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
