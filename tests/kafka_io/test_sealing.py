"""Secrets of routes: only their own route's, and only with the key."""

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from kafka_io.errors import Unsealed
from kafka_io.sealing import SealingKey, SecretBox

KEY = SecretStr("thirty-two bytes that nobody else has")
SECRETS = {"url": "https://hooks.slack.com/services/T/B/x", "auth": "ü"}


def test_what_was_sealed_is_opened_for_its_own_route() -> None:
    box = SecretBox(KEY)
    sealed = box.seal(SECRETS, "acme", "desk")
    assert b"hooks" not in sealed
    assert SecretBox(KEY).open(sealed, "acme", "desk") == SECRETS


@pytest.mark.parametrize(
    ("key", "tenant", "route", "damaged"),
    [
        (KEY, "other", "desk", False),
        (KEY, None, "desk", False),
        (KEY, "acme", "desk2", False),
        (SecretStr("another key of at least thirty-two bytes"), "acme", "desk", False),
        (KEY, "acme", "desk", True),
    ],
)
def test_nothing_else_opens_it(
    key: SecretStr, tenant: str | None, route: str, *, damaged: bool
) -> None:
    sealed = SecretBox(KEY).seal(SECRETS, "acme", "desk")
    if damaged:
        sealed = bytes([sealed[0] ^ 1]) + sealed[1:]
    with pytest.raises(Unsealed, match="sealed by another key, or for another route"):
        SecretBox(key).open(sealed, tenant, route)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="it has 5 bytes; secrets need a key"):
        TypeAdapter(SealingKey).validate_python("short")
