"""Tokens: which are good, and what is said of those that are not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import SecretStr

from infra import demo_issuer as issuer
from kafka_io.errors import InvalidSetting
from sse_edge.caller import Caller, Scope
from sse_edge.errors import Unauthorized
from sse_edge.http.auth import Authenticator
from sse_edge.settings import EdgeSettings

ISSUER = "https://issuer.example"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = Ed25519PrivateKey.generate()

_TO_JWK: Any = {
    "RS256": (RSAAlgorithm, RSA),
    "ES256": (ECAlgorithm, EC),
    "EdDSA": (OKPAlgorithm, ED),
}


def write_keys(path: Path, *algorithms: str, suffix: str = "") -> None:
    keys = []
    for algorithm in algorithms:
        kind, private = _TO_JWK[algorithm]
        shown = kind.to_jwk(private.public_key(), as_dict=True)
        keys.append(shown | {"kid": algorithm + suffix, "use": "sig"})
    path.write_text(json.dumps({"keys": keys}))


def token(
    algorithm: str = "RS256", kid: str | None = None, typ: str = "JWT", **claims: object
) -> str:
    now_s = int(time.time())
    said: dict[str, object] = {"iss": ISSUER, "aud": "tapewire", "sub": "alice", "exp": now_s + 60}
    said |= claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(
        said, _TO_JWK[algorithm][1], algorithm, headers={"kid": kid or algorithm, "typ": typ}
    )


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    write_keys(path, "RS256", "ES256", "EdDSA")
    return path


@pytest.fixture
async def identity(jwks: Path) -> AsyncGenerator[Authenticator]:
    settings = EdgeSettings(
        jwt_issuer=ISSUER, jwt_audience="tapewire", jwt_jwks=str(jwks), jwt_leeway_s=1
    )
    async with running(settings) as authenticator:
        yield authenticator


@asynccontextmanager
async def running(settings: EdgeSettings) -> AsyncGenerator[Authenticator]:
    authenticator = Authenticator(settings)
    async with authenticator.running():
        yield authenticator


async def caller_of(settings: EdgeSettings, text: str) -> Caller:
    async with running(settings) as authenticator:
        caller = await authenticator.caller(text)
    assert caller is not None
    return caller


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_it_knows_whose_a_good_token_is(identity: Authenticator, algorithm: str) -> None:
    caller = await identity.caller(token(algorithm, tenant="acme"))
    assert caller is not None
    assert (caller.subject, caller.tenant) == ("alice", "acme")
    assert caller.expires_s == pytest.approx(time.time() + 60, abs=5)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_a_token_for_access_has_any_of_its_types(identity: Authenticator, typ: str) -> None:
    assert await identity.caller(token(typ=typ))


async def test_a_refusal_quotes_nothing_of_the_token(identity: Authenticator) -> None:
    for text in ("s3cr3t", "s3cr3t.s3cr3t.s3cr3t", _signed(b"s3cr3t"), token() + "s3cr3t"):
        with pytest.raises(Unauthorized) as refused:
            await identity.caller(text)
        assert "s3cr3t" not in str(refused.value)
        assert refused.value.__cause__ is None


async def test_an_issuer_without_an_audience_is_warned_of(
    jwks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(EdgeSettings(jwt_issuer=ISSUER, jwt_jwks=str(jwks))):
        assert "TAPEWIRE_JWT_AUDIENCE is unset" in caplog.text
    caplog.clear()
    async with running(
        EdgeSettings(jwt_issuer=ISSUER, jwt_jwks=str(jwks), jwt_audience="tapewire")
    ):
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("claim", "claims", "tenant"),
    [
        (None, {"tenant": "acme"}, "acme"),
        (None, {"tenant": ""}, None),
        (None, {"tenant": 7}, "7"),
        ("org_id", {"org_id": "org-1", "tenant": "ignored"}, "org-1"),
        ("org_id", {"tenant": "ignored"}, None),
        ("firebase.tenant", {"firebase": {"tenant": "acme"}}, "acme"),
        ("firebase.tenant", {"firebase": {"identities": {}}}, None),
        ("firebase.tenant", {"firebase": "acme"}, None),
        ("https://desk.example/org", {"https://desk.example/org": "acme"}, "acme"),
    ],
)
async def test_the_tenant_is_in_the_claim_of_the_setting(
    jwks: Path, claim: str | None, claims: Any, tenant: str | None
) -> None:
    settings = EdgeSettings(
        jwt_issuer=ISSUER,
        jwt_jwks=str(jwks),
        jwt_tenant_claim=claim,
        cursor_secret=SecretStr("s" * 16),
    )
    caller = await caller_of(settings, token(**claims))
    assert caller.tenant == tenant


async def test_tenants_without_a_cursor_secret_are_warned_of_once(
    identity: Authenticator, caplog: pytest.LogCaptureFixture
) -> None:
    await identity.caller(token())
    assert "TAPEWIRE_CURSOR_SECRET" not in caplog.text
    for tenant in ("acme", "other"):
        await identity.caller(token(tenant=tenant))
    assert caplog.text.count("TAPEWIRE_CURSOR_SECRET is unset") == 1


@pytest.mark.parametrize("tenant", [["acme"], {"id": "acme"}, True, 1.5, "x" * 257])
async def test_a_tenant_that_is_no_name_is_refused(identity: Authenticator, tenant: object) -> None:
    with pytest.raises(Unauthorized, match="claim tenant names no tenant"):
        await identity.caller(token(tenant=tenant))


@pytest.mark.parametrize(
    ("claim", "is_required", "claims", "scopes"),
    [
        (None, False, {"scope": "read"}, set(Scope)),
        ("scope", False, {}, set(Scope)),
        ("scope", True, {}, set()),
        ("scope", False, {"scope": ""}, set()),
        ("scope", False, {"scope": "read openid  limits"}, {Scope.READ, Scope.LIMITS}),
        ("permissions", True, {"permissions": ["ack", "other"]}, {Scope.ACK}),
        ("realm.roles", False, {"realm": {"roles": ["admin"]}}, {Scope.ADMIN}),
        ("scope", False, {"scope": "READ"}, set()),
    ],
)
async def test_the_scopes_are_in_the_claim_of_the_setting(
    jwks: Path,
    claim: str | None,
    is_required: bool,  # noqa: FBT001  # a parameter of the table
    claims: Any,
    scopes: set[Scope],
) -> None:
    settings = EdgeSettings(
        jwt_issuer=ISSUER,
        jwt_jwks=str(jwks),
        jwt_scope_claim=claim,
        jwt_scope_required=is_required,
    )
    caller = await caller_of(settings, token(**claims))
    assert caller.scopes == scopes


@pytest.mark.parametrize("scope", [7, {"read": True}, ["read", 1], [["read"]], True])
async def test_scopes_that_are_no_names_are_refused(jwks: Path, scope: object) -> None:
    settings = EdgeSettings(jwt_issuer=ISSUER, jwt_jwks=str(jwks), jwt_scope_claim="scope")
    async with running(settings) as authenticator:
        with pytest.raises(Unauthorized, match="claim scope is neither a text"):
            await authenticator.caller(token(scope=scope))


_ABSURD = (
    "1e999", "-1e999", "NaN", str(10**400), "9" * 5_000, "1e308", "253402300800", "true", '"soon"',
    "[]", "{}", "null",
)  # fmt: skip


def _with_exp(exp: str) -> Callable[[], str]:
    """Return a maker of well-signed tokens with an `exp` as it stands in their JSON."""
    claims = json.dumps({"iss": ISSUER, "aud": "tapewire", "sub": "alice", "exp": 0})
    return lambda: _signed(claims.replace(": 0}", f": {exp}}}").encode())


def _signed(payload: bytes) -> str:
    return jwt.PyJWS().encode(payload, RSA, "RS256", {"kid": "RS256"})


def _public_pem() -> bytes:
    return RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _confused() -> str:
    """Signed with the public key, as if that were a shared secret."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"iss": ISSUER, "aud": "tapewire", "sub": "mallory", "exp": int(time.time()) + 60}
    signed = part({"alg": "HS256", "kid": "RS256"}) + b"." + part(claims)
    check = hmac.new(_public_pem(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(check).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: None, "a token is required"),
        (lambda: "nonsense", "the token is invalid"),
        (lambda: token(exp=int(time.time()) - 5), "expired"),
        (lambda: token(nbf=int(time.time()) + 60), "not yet valid"),
        (lambda: token(iss="https://other.example"), "[Ii]ssuer"),
        (lambda: token(aud="other"), "[Aa]udience"),
        (lambda: token(aud=None), "aud"),
        (lambda: token(sub=None), "sub"),
        (lambda: token(exp=None), "exp"),
        (lambda: token(kid="unknown"), "no key 'unknown'"),
        (lambda: token("ES256", kid="RS256"), "alg"),
        (lambda: token()[:-4] + "AAAA", "[Ss]ignature"),
        (lambda: jwt.encode({"sub": "x"}, "", "none", {"kid": "RS256"}), "alg"),
        (_confused, "alg"),
        *(
            (_with_exp(exp), "exp|cannot be read|no JSON Web Token|[Ee]xpiration")
            for exp in _ABSURD
        ),
        (lambda: "x" * 20_000, "more than 16384 characters"),
        (lambda: token(sub="x" * 257), "257 characters"),
        (lambda: token(sub=""), "0 characters"),
        (lambda: token(sub=7), "[Ss]ubject|sub"),
        (lambda: token(nbf=1e308), "not yet valid|cannot be read"),
        (lambda: token(typ="logout+jwt"), "`typ` is 'logout\\+jwt'"),
        (lambda: _signed(b"[" * 10_000), "no JSON Web Token|cannot be read"),
        (lambda: _signed(b'{"exp": 1e999}'), "."),
        (lambda: _signed(b"[]"), "no JSON Web Token"),
        (lambda: "e30.e30.", "."),
    ],
)
async def test_an_invalid_token_is_refused_with_the_reason(
    identity: Authenticator, made: Any, why: str
) -> None:
    with pytest.raises(Unauthorized, match=why):
        await identity.caller(made())


async def test_a_shared_secret_counts_only_where_it_is_set() -> None:
    secret = "s" * 32
    signed = jwt.encode(
        {"iss": ISSUER, "sub": "dev", "exp": int(time.time()) + 60}, secret, "HS256"
    )
    there = Authenticator(
        EdgeSettings.model_validate({"jwt_issuer": ISSUER, "jwt_hs256_secret": secret})
    )
    caller = await there.caller(signed)
    assert caller is not None
    assert caller.subject == "dev"


def test_firebase_is_one_setting() -> None:
    rules = EdgeSettings(firebase_project="my-app").issues
    assert rules is not None
    assert (rules.issuer, rules.audience) == ("https://securetoken.google.com/my-app", "my-app")
    assert rules.jwks is not None
    assert rules.jwks.startswith("https://www.googleapis.com/")


async def test_a_demo_token_is_known_and_none_is_needed(tmp_path: Path) -> None:
    settings = EdgeSettings(demo_jwks=str(issuer.jwks_path(tmp_path)))
    assert await Authenticator(settings).caller(None) is None
    caller = await caller_of(settings, issuer.token(tmp_path, "alice", "acme", 60))
    assert (caller.subject, caller.tenant) == ("alice", "acme")
    assert caller.scopes == set(Scope)
    caller = await caller_of(settings, issuer.token(tmp_path, "alice", None, 60, "read ack"))
    assert caller.scopes == {Scope.READ, Scope.ACK}


@pytest.mark.parametrize(
    "foreign",
    [
        lambda: "nonsense",
        token,
        lambda: token(exp=int(time.time()) - 500),
        lambda: token("EdDSA", kid="demo", iss=issuer.ISSUER),
        lambda: token("EdDSA", kid="demo", iss=issuer.ISSUER, exp=int(time.time()) - 500),
    ],
)
async def test_an_open_edge_ignores_a_token_that_it_does_not_know_and_logs_the_first(
    tmp_path: Path, foreign: Any, caplog: pytest.LogCaptureFixture
) -> None:
    demo = EdgeSettings(demo_jwks=str(issuer.jwks_path(tmp_path)))
    for settings in (demo, EdgeSettings()):
        async with running(settings) as authenticator:
            caplog.clear()
            assert await authenticator.caller(foreign()) is None
            assert await authenticator.caller(foreign()) is None
        (line,) = caplog.messages
        assert line.startswith("this edge is open and ignores a token: ")


async def test_an_open_edge_refuses_an_expired_token_of_its_own(tmp_path: Path) -> None:
    settings = EdgeSettings(demo_jwks=str(issuer.jwks_path(tmp_path)))
    async with running(settings) as authenticator:
        with pytest.raises(Unauthorized, match="expired"):
            await authenticator.caller(issuer.token(tmp_path, "alice", None, -60))


def test_the_demo_counts_for_nothing_where_another_issuer_is_set(jwks: Path) -> None:
    settings = EdgeSettings(jwt_issuer=ISSUER, jwt_jwks=str(jwks), demo_jwks="demo.json")
    assert settings.issues is not None
    assert (settings.issues.issuer, settings.issues.is_demo) == (ISSUER, False)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"host": "192.0.2.1"}, "there is no authentication"),
        ({"host": "192.0.2.1", "demo_jwks": "x"}, "there is no authentication"),
        ({"jwt_issuer": ISSUER}, "needs one of TAPEWIRE_JWT_JWKS"),
        ({"jwt_scope_claim": "scope"}, "TAPEWIRE_JWT_SCOPE_CLAIM is set, and neither"),
        ({"jwt_tenant_claim": "org"}, "TAPEWIRE_JWT_TENANT_CLAIM is set, and neither"),
        (
            {"firebase_project": "my-app", "jwt_tenant_claim": "firebase.tenant"},
            "TAPEWIRE_JWT_TENANT_CLAIM is set, and TAPEWIRE_CURSOR_SECRET is not",
        ),
        ({"cursor_secret": "short"}, "shown: it has 5 bytes; cursors need at least 16"),
        ({"cursor_secrets_before": "old"}, "TAPEWIRE_CURSOR_SECRET is not"),
        ({"cursor_unsigned": True}, "TAPEWIRE_CURSOR_SECRET is not"),
        (
            {"firebase_project": "my-app", "jwt_scope_required": True},
            "TAPEWIRE_JWT_SCOPE_CLAIM is not",
        ),
        ({"jwt_issuer": ISSUER, "jwt_jwks": "x", "jwt_hs256_secret": "y" * 32}, "needs one of"),
        ({"jwt_issuer": ISSUER, "jwt_hs256_secret": "short"}, "shown: it has 5 bytes; HS256 needs"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(settings: Any, why: str) -> None:
    with pytest.raises(InvalidSetting, match=why):
        EdgeSettings(**settings)
