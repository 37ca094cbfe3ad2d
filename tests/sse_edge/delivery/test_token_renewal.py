import asyncio
import time

import pytest

from schemas.topics import Topic
from sse_edge.caller import Caller, is_owned
from sse_edge.delivery.node import FinalEvent
from sse_edge.delivery.token_renewal import TokenRenewal
from tests.support.edge import alerts_log, running_edge

NOW_S = 1_000_000.0


class Renewals:
    def __init__(self) -> None:
        self.renewed: dict[str, float] = {}

    def renewed_until_s(self, challenge: str) -> float | None:
        return self.renewed.get(challenge)

    def final_event(
        self, states: Topic, entity: str, tenant: str | None = None
    ) -> FinalEvent | None:
        raise AssertionError(f"a token has no final event in {states} of {entity} of {tenant}")


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW_S)


def challenge_of(token: TokenRenewal) -> str:
    data = token.challenge(30.9)
    assert data["seconds"] == 30
    return str(data["url"]).removeprefix("/api/v1/sse/renew/")


def test_a_token_is_valid_until_it_expires() -> None:
    token = TokenRenewal(Caller("u", None, NOW_S + 40))
    assert token.valid_for_s(Renewals()) == 40
    assert not token.is_challenged


def test_a_challenge_can_be_answered_by_the_tokens_owner_only() -> None:
    caller = Caller("u", "acme", NOW_S + 40)
    token = TokenRenewal(caller)
    challenge = challenge_of(token)
    assert token.is_challenged
    assert is_owned(challenge, caller)
    assert not is_owned(challenge, Caller("v", "acme", NOW_S + 40))
    assert not is_owned(challenge, None)


def test_a_fresh_token_prolongs_the_stream_and_answers_the_challenge() -> None:
    token, renewals = TokenRenewal(Caller("u", None, NOW_S + 40)), Renewals()
    challenge = challenge_of(token)
    assert token.valid_for_s(renewals) == 40
    renewals.renewed[challenge] = NOW_S + 500
    assert token.valid_for_s(renewals) == 500
    assert not token.is_challenged
    assert challenge_of(token) != challenge


@pytest.mark.virtual_time
async def test_a_stream_whose_token_expires_ends_and_is_counted_once() -> None:
    async with running_edge(alerts_log()) as edge:
        expired = edge.connect(caller=Caller("u", None, NOW_S + 0.5))
        valid = edge.connect(caller=Caller("u", None, NOW_S + 600))
        await edge.ended(expired)
        await asyncio.sleep(3)
        assert not valid.over
        assert edge.node.metrics.expired_tokens == 1
