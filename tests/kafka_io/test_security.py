"""Settings of Kafka's security: contradictions are refused by name, and secrets are never shown."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from kafka_io import client
from kafka_io.errors import InvalidSetting
from kafka_io.security import (
    SecuritySettings,
    current_credentials,
    extensions_of,
    read_credentials,
)
from tests.support.certificates import Authority, encrypted

SECRET = "correct-horse-battery"
TLS = {"SECURITY_PROTOCOL": "SSL"}
SCRAM = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "SCRAM-SHA-512",
    "SASL_USERNAME": "edge",
    "SASL_PASSWORD": SECRET,
}
OAUTH = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "OAUTHBEARER",
    "OAUTH_TOKEN_URL": "https://issuer.test/token",
    "OAUTH_CLIENT_ID": "edge",
    "OAUTH_CLIENT_SECRET": SECRET,
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*filter(lambda name: name.startswith(("KAFKA_", "AWS_")), os.environ)]:
        monkeypatch.delenv(name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, *settings: dict[str, str]) -> None:
    for group in settings:
        for name, value in group.items():
            monkeypatch.setenv(f"KAFKA_{name}", value)


def without(settings: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name not in names}


def test_without_settings_everything_is_as_before() -> None:
    assert client.aiokafka_options() == {}
    assert client.librdkafka_options(current_credentials()) == {}


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"SASL_PASSWORD": "", "SSL_CA_FILE": "", "SECURITY_PROTOCOL": ""})
    assert SecuritySettings().is_plain


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"SECURITY_PROTOCOL": "SSL", "SASL_MECHANISM": "PLAIN"},
            "KAFKA_SASL_MECHANISM is PLAIN, but KAFKA_SECURITY_PROTOCOL is SSL, which has no SASL",
        ),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "but KAFKA_SASL_MECHANISM is not set"),
        ({"SECURITY_PROTOCOL": "TLS"}, "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({**SCRAM, "SASL_MECHANISM": "gssapi"}, "Kerberos is not supported; use SCRAM-SHA-512"),
        (
            without(SCRAM, "SASL_USERNAME"),
            "but neither KAFKA_SASL_USERNAME nor KAFKA_SASL_USERNAME_FILE is set",
        ),
        (
            without(SCRAM, "SASL_PASSWORD"),
            "but neither KAFKA_SASL_PASSWORD nor KAFKA_SASL_PASSWORD_FILE is set",
        ),
        ({"SASL_PASSWORD": SECRET}, "KAFKA_SASL_PASSWORD is set, which needs PLAIN or SCRAM"),
        ({**OAUTH, "SASL_USERNAME": "edge"}, "KAFKA_SASL_USERNAME is set, which needs PLAIN"),
        (
            {**SCRAM, "SASL_PASSWORD_FILE": "/password"},
            "KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set; unset one of them",
        ),
        ({"SSL_CA_FILE": "/ca"}, "KAFKA_SSL_CA_FILE is set, which needs SSL or SASL_SSL"),
        (
            {**TLS, "SSL_KEY": SECRET},
            "but neither KAFKA_SSL_CERTIFICATE nor KAFKA_SSL_CERTIFICATE_FILE is set",
        ),
        ({**TLS, "SSL_CERTIFICATE_FILE": "/x"}, "but neither KAFKA_SSL_KEY nor KAFKA_SSL_KEY_FILE"),
        ({**TLS, "SSL_KEY_PASSWORD": SECRET}, "but neither KAFKA_SSL_KEY nor KAFKA_SSL_KEY_FILE"),
        (without(OAUTH, "OAUTH_TOKEN_URL"), "but KAFKA_OAUTH_TOKEN_URL is not set"),
        (without(OAUTH, "OAUTH_CLIENT_SECRET"), "neither KAFKA_OAUTH_CLIENT_SECRET nor"),
        ({**SCRAM, "OAUTH_SCOPE": "kafka"}, "KAFKA_OAUTH_SCOPE is set, which needs OAUTHBEARER"),
        ({**OAUTH, "OAUTH_TOKEN_URL": "http://issuer.test"}, "must begin with https://"),
        ({**OAUTH, "OAUTH_EXTENSIONS": "auth=x"}, "must be NAME=VALUE with commas between"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "AWS_MSK_IAM"},
            "neither KAFKA_AWS_REGION nor AWS_REGION is set",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "AWS_MSK_IAM"},
            "which needs SASL_SSL as KAFKA_SECURITY_PROTOCOL",
        ),
        ({**SCRAM, "AWS_REGION": "eu-central-1"}, "KAFKA_AWS_REGION is set, which needs AWS_MSK"),
    ],
)
def test_a_contradiction_is_refused_by_its_variables(
    settings: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, settings)
    with pytest.raises(InvalidSetting) as refused:
        SecuritySettings()
    assert expected in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read: No such file"), (b"", "which is empty"), (b"\xff\xfe", "no UTF-8")],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    content: bytes | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    use(monkeypatch, without(SCRAM, "SASL_PASSWORD"), {"SASL_PASSWORD_FILE": str(path)})
    with pytest.raises(InvalidSetting, match="KAFKA_SASL_PASSWORD_FILE is ") as refused:
        client.check_security()
    assert str(path) in str(refused.value)
    assert expected in str(refused.value)


def test_certificates_that_cannot_be_used_are_named_and_not_shown(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no-ca").write_text(SECRET, encoding="utf-8")
    use(monkeypatch, TLS, {"SSL_CA_FILE": str(tmp_path / "no-ca")})
    with pytest.raises(InvalidSetting, match="has no certificate in PEM") as refused:
        client.check_security()
    assert SECRET not in str(refused.value)
    edge, other = authority.client("edge"), authority.client("other")
    files = {
        "SSL_CA_FILE": str(authority.file),
        "SSL_CERTIFICATE_FILE": str(edge.certificate),
        "SSL_KEY_FILE": str(other.key),
    }
    use(monkeypatch, files)
    with pytest.raises(InvalidSetting, match="KEY_VALUES_MISMATCH") as refused:
        client.check_security()
    assert f"KAFKA_SSL_KEY_FILE ({other.key})" in str(refused.value)
    use(monkeypatch, {"SSL_KEY_FILE": str(encrypted(edge.key, SECRET))})
    with pytest.raises(InvalidSetting, match="with KAFKA_SSL_KEY_PASSWORD if"):
        client.check_security()
    use(monkeypatch, {"SSL_KEY_PASSWORD": SECRET})
    client.check_security()


def test_settings_are_rendered_for_each_library(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = authority.client("edge")
    use(
        monkeypatch,
        SCRAM,
        {
            "SSL_CA_FILE": str(authority.file),
            "SSL_CERTIFICATE": edge.certificate.read_text(encoding="utf-8"),
            "SSL_KEY_FILE": str(edge.key),
        },
    )
    options = client.aiokafka_options()
    context = options.pop("ssl_context")
    assert context.check_hostname
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "edge",
        "sasl_plain_password": SECRET,
    }
    assert client.librdkafka_options(current_credentials()) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "edge",
        "sasl.password": SECRET,
        "ssl.ca.pem": authority.file.read_text(encoding="utf-8").rstrip(),
        "ssl.certificate.pem": edge.certificate.read_text(encoding="utf-8"),
        "ssl.key.pem": edge.key.read_text(encoding="utf-8").rstrip(),
    }


def test_tokens_are_rendered_for_each_library(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, OAUTH)
    assert client.aiokafka_options()["sasl_mechanism"] == "OAUTHBEARER"
    rendered = client.librdkafka_options(current_credentials())
    assert rendered["sasl.mechanism"] == "OAUTHBEARER"
    assert callable(rendered["oauth_cb"])


def test_extensions_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, OAUTH, {"OAUTH_EXTENSIONS": "logicalCluster=lkc-1, identityPoolId=pool-2"})
    assert extensions_of(SecuritySettings()) == {
        "logicalCluster": "lkc-1",
        "identityPoolId": "pool-2",
    }


def test_secrets_are_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, SCRAM)
    for value in (SecuritySettings(), current_credentials(), read_credentials(SecuritySettings())):
        assert SECRET not in f"{value!r} {value}"


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "password"
    path.write_text("first\n", encoding="utf-8")
    use(monkeypatch, without(SCRAM, "SASL_PASSWORD"), {"SASL_PASSWORD_FILE": str(path)})
    return path


def test_a_file_is_read_again_when_it_has_changed(password_file: Path) -> None:
    assert current_credentials().password == "first"
    password_file.write_text("second\n", encoding="utf-8")
    assert current_credentials().password == "second"
    assert client.aiokafka_options()["sasl_plain_password"] == "second"


def test_while_a_file_cannot_be_read_the_last_credentials_stay(
    password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert current_credentials().password == "first"
    password_file.unlink()
    assert current_credentials().password == "first"
    assert current_credentials().password == "first"
    assert caplog.text.count("the last credentials of Kafka stay in use") == 1
    password_file.write_text("third", encoding="utf-8")
    assert current_credentials().password == "third"


def test_a_client_for_administration_is_made_anew_with_new_credentials(
    password_file: Path,
) -> None:
    admin = client.Admin("127.0.0.1:1")
    first = admin.current()
    assert admin.current() is first
    password_file.write_text("second", encoding="utf-8")
    assert admin.current() is not first


def test_a_clear_password_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, SCRAM, {"SECURITY_PROTOCOL": "SASL_PLAINTEXT"})
    client.check_security()
    assert "KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT" in caplog.text
    assert SECRET not in caplog.text


def test_given_settings_are_used_in_place_of_the_environment() -> None:
    settings = SecuritySettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username=SecretStr("a"),
        sasl_password=SecretStr("b"),
    )
    assert client.aiokafka_options(settings)["sasl_plain_username"] == "a"
