"""The settings of a notifier, and where the secrets of routes come from."""

from ipaddress import ip_network
from pathlib import Path
from traceback import format_exception

import pytest
from pydantic import SecretStr

from kafka_io.errors import InvalidSetting
from kafka_io.sealing import SecretBox
from stream_processors.notifications.settings import NotifierSettings, Secrets, UnusableSecret
from tests.stream_processors.notifications.conftest import route

KEY = SecretStr("thirty-two bytes that nobody else has")


def test_networks_are_listed_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_NOTIFICATION_NETWORKS", "10.1.2.3/16, ::1")
    assert NotifierSettings().notification_networks == (
        ip_network("10.1.0.0/16"),
        ip_network("::1/128"),
    )


@pytest.mark.parametrize(
    "values",
    [
        {"NOTIFICATION_KEY": "hush"},
        {"NOTIFICATION_KEY": "hush" * 10, "SMTP_PORT": "x"},
        {"SMTP_PASSWORD": "hush", "SMTP_HOST": "mail"},
        {"SMTP_PASSWORD": "hush", "SMTP_PASSWORD_FILE": "/b"},
        {"SMTP_PASSWORD": "hush", "NOTIFICATION_KEY": "hush" * 10},
    ],
)
def test_no_error_and_no_text_of_the_settings_shows_a_secret(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TAPEWIRE_{name}", value)
    try:
        settings = NotifierSettings()
    except InvalidSetting as error:
        shown = "".join(format_exception(error))
    else:
        shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"NOTIFICATION_NETWORKS": "inside"}, "'inside' is no address or network"),
        ({"SMTP_HOST": "mail"}, "TAPEWIRE_SMTP_FROM is not; e-mails need a sender"),
        ({"SMTP_PASSWORD": "a", "SMTP_PASSWORD_FILE": "/b"}, "are both set; unset one"),
        ({"NOTIFICATION_KEY": "short"}, "secrets need a key of at least 32"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(
    values: dict[str, str], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TAPEWIRE_{name}", value)
    with pytest.raises(InvalidSetting, match=error):
        NotifierSettings()


def test_a_password_comes_from_its_file(tmp_path: Path) -> None:
    assert NotifierSettings().smtp_password_text() is None
    assert NotifierSettings(smtp_password=SecretStr("p")).smtp_password_text() == "p"
    (tmp_path / "p").write_text("q\n")
    assert NotifierSettings(smtp_password_file=tmp_path / "p").smtp_password_text() == "q"


def test_web_push_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(UnusableSecret, match="no key is set"):
        NotifierSettings().web_push()
    (tmp_path / "key").write_text("no key")
    settings = NotifierSettings(vapid_key_file=tmp_path / "key", vapid_subject="mailto:a@b.c")
    with pytest.raises(UnusableSecret, match="cannot be used"):
        settings.web_push()


def test_secrets_are_opened_or_read_from_the_folder_of_the_tenant(tmp_path: Path) -> None:
    (tmp_path / "tenants" / "acme").mkdir(parents=True)
    (tmp_path / "hook").write_text("of no tenant\n")
    (tmp_path / "tenants" / "acme" / "hook").write_text("acme's\n")
    secrets = Secrets(NotifierSettings(notification_key=KEY, notification_secrets=tmp_path))
    sealed = SecretBox(KEY).seal({"url": "https://x"}, "acme", "desk")
    found = secrets.of(route(sealed=sealed, secret_refs={"secret": "hook"}), "acme")
    assert found == {"url": "https://x", "secret": "acme's"}
    assert secrets.of(route(secret_refs={"secret": "hook"}), None) == {"secret": "of no tenant"}


@pytest.mark.parametrize(
    ("tenant", "reference"),
    [
        ("acme", "../hook"),
        ("acme", "../../hook"),
        ("acme", ".."),
        ("..", "hook"),
        (".", "hook"),
        ("../tenants/acme", "own"),
        (None, "tenants/acme/own"),
        (None, "tenants"),
        ("acme", "no-such-secret"),
    ],
)
def test_no_reference_leads_out_of_the_tenants_folder(
    tenant: str | None, reference: str, tmp_path: Path
) -> None:
    (tmp_path / "tenants" / "acme").mkdir(parents=True)
    (tmp_path / "hook").write_text("of no tenant")
    (tmp_path / "tenants" / "hook").write_text("of no tenant either")
    (tmp_path / "tenants" / "acme" / "own").write_text("acme's")
    secrets = Secrets(NotifierSettings(notification_secrets=tmp_path))
    with pytest.raises(UnusableSecret, match="cannot be read"):
        secrets.of(route(secret_refs={"secret": reference}), tenant)


def test_secrets_that_this_notifier_cannot_have_are_named() -> None:
    bare = Secrets(NotifierSettings())
    with pytest.raises(UnusableSecret, match="has no TAPEWIRE_NOTIFICATION_SECRETS"):
        bare.of(route(secret_refs={"url": "hook"}), None)
    sealed = SecretBox(KEY).seal({"url": "https://x"}, None, "desk")
    with pytest.raises(UnusableSecret, match="has no TAPEWIRE_NOTIFICATION_KEY"):
        bare.of(route(sealed=sealed), None)
    with pytest.raises(UnusableSecret, match="for another route"):
        Secrets(NotifierSettings(notification_key=KEY)).of(route("other", sealed=sealed), None)
