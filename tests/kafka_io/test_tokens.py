"""Tokens come from the token endpoint, are shared, and are renewed before they expire."""

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from pydantic import SecretStr

from kafka_io.client import aiokafka_options, librdkafka_options
from kafka_io.errors import InvalidSetting, NoToken
from kafka_io.security import SecuritySettings, read_credentials
from kafka_io.tokens import Token, TokenProvider, TokenSource, fetch_token, librdkafka_callback
from tests.support.local_server import QuietHandler, serving

SECRET = "pass:word/1"


class Issuer:
    """A token endpoint that answers what a test wants."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.forms: list[dict[str, list[str]]] = []
        self.users: list[str] = []
        self.url = ""

    @contextmanager
    def serving(self) -> Generator["Issuer"]:
        issuer = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802  # the library calls it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                issuer.forms.append(parse_qs(body.decode()))
                scheme, _, user = self.headers["Authorization"].partition(" ")
                assert scheme == "Basic"
                issuer.users.append(base64.b64decode(user).decode())
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(issuer.body)

        with serving(Handler) as address:
            self.url = f"{address}/token"
            yield self


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().serving() as serving:
        yield serving


def settings_of(issuer: Issuer) -> SecuritySettings:
    return SecuritySettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        oauth_token_url=issuer.url,
        oauth_client_id=SecretStr("edge"),
        oauth_client_secret=SecretStr(SECRET),
        oauth_scope="kafka",
        oauth_extensions="logicalCluster=lkc-1",
    )


def answer(value: object, **more: object) -> bytes:
    return json.dumps({"access_token": value, **more}).encode()


async def test_a_token_is_obtained_by_client_credentials_and_shared(issuer: Issuer) -> None:
    issuer.body = answer("abc.def", expires_in=600)
    settings = settings_of(issuer)
    provider = TokenProvider(settings)
    assert await provider.token() == "abc.def"
    assert provider.extensions() == {"logicalCluster": "lkc-1"}
    value, expires_s, _, extensions = librdkafka_callback(settings)("")
    assert (value, extensions) == ("abc.def", {"logicalCluster": "lkc-1"})
    assert expires_s == pytest.approx(fetch_token(read_credentials(settings)).expires_s, abs=60)
    assert issuer.forms == [{"grant_type": ["client_credentials"], "scope": ["kafka"]}] * 2
    assert unquote(issuer.users[0]) == f"edge:{SECRET}"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b"the secret pass:word/1 is wrong", "answers 401"),
        (302, b"", "answers 302"),
        (200, b"no json", "without an access token"),
        (200, b"[]", "without an access token"),
        (200, answer(7), "without an access token"),
        (200, answer("a\x01auth=b"), "without an access token"),
        (200, b'"' + b"x" * (1 << 18) + b'"', "without an access token"),
    ],
)
def test_an_answer_without_a_token_is_an_error_that_shows_no_content(
    status: int, body: bytes, expected: str, issuer: Issuer
) -> None:
    issuer.status, issuer.body = status, body
    issuer.headers = {"Location": issuer.url} if status == 302 else {}
    with pytest.raises(NoToken, match=expected) as failed:
        fetch_token(read_credentials(settings_of(issuer)))
    assert issuer.url in str(failed.value)
    assert SECRET not in str(failed.value)
    assert len(issuer.forms) == 1  # no redirect is followed


def test_an_endpoint_that_is_away_is_named() -> None:
    issuer = Issuer()
    issuer.url = "http://127.0.0.1:1/token"
    with pytest.raises(NoToken, match=r"127\.0\.0\.1:1/token does not answer: "):
        fetch_token(read_credentials(settings_of(issuer)))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Endpoint:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls = 0
        self.is_away = False

    def __call__(self) -> Token:
        self.calls += 1
        if self.is_away:
            raise NoToken("the endpoint is away")
        return Token(f"t{self.calls}", self.clock.now_s + 100)


def test_a_token_is_renewed_when_a_fifth_of_its_life_is_left() -> None:
    clock = Clock()
    endpoint = Endpoint(clock)
    source = TokenSource(endpoint, clock)
    assert [source.token().value, source.token().value] == ["t1", "t1"]
    clock.now_s += 79
    assert source.token().value == "t1"
    clock.now_s += 2
    assert source.token().value == "t2"


def test_an_endpoint_that_fails_costs_nothing_while_a_token_is_valid() -> None:
    clock = Clock()
    endpoint = Endpoint(clock)
    source = TokenSource(endpoint, clock)
    source.token()
    endpoint.is_away = True
    clock.now_s += 90
    assert [source.token().value, source.token().value] == ["t1", "t1"]
    assert endpoint.calls == 2  # it is left alone for a second
    clock.now_s += 11
    with pytest.raises(NoToken, match="the endpoint is away"):
        source.token()
    endpoint.is_away = False
    clock.now_s += 2
    assert source.token().value == "t4"


def msk(region: str) -> SecuritySettings:
    return SecuritySettings(
        security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM", aws_region=region
    )


SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def as_of_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **credentials: str) -> None:
    """Let the library of AWS find these credentials and no others, and ask no server."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "ROLE_ARN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("CONTAINER_CREDENTIALS_FULL_URI", "CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in credentials.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def signature_of(url: str, region: str, secret_key: str) -> str:
    """Return the signature of a URL by version 4 of AWS, as its documentation defines it."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    unsigned = ("X-Amz-Signature", "User-Agent")
    canonical = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in sorted(query.items())
        if name not in unsigned
    )
    empty = hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n{canonical}\nhost:{parts.netloc}\n\nhost\n{empty}"
    time = query["X-Amz-Date"]
    scope = f"{time[:8]}/{region}/kafka-cluster/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in (time[:8], region, "kafka-cluster", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}".encode(), "sha256").hex()


async def test_a_token_for_msk_is_a_url_that_the_credentials_of_aws_have_signed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_of_aws(
        monkeypatch,
        tmp_path,
        ACCESS_KEY_ID="AKIDEXAMPLE",
        SECRET_ACCESS_KEY=SECRET_KEY,
        SESSION_TOKEN="of a role/1=",  # noqa: S106  # it is none of AWS
    )
    settings = msk("eu-central-1")
    token, expires_s, _, extensions = librdkafka_callback(settings)("")
    assert await TokenProvider(settings).token() == token, "all clients share it"
    assert extensions == {}
    assert expires_s == pytest.approx(time.time() + 900, abs=60)
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert url.startswith("https://kafka.eu-central-1.amazonaws.com/?")
    query = parse_qs(urlsplit(url).query)
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Expires"] == ["900"]
    assert query["X-Amz-Security-Token"] == ["of a role/1="]
    assert query["X-Amz-Credential"][0].startswith("AKIDEXAMPLE/")
    assert query["X-Amz-Signature"] == [signature_of(url, "eu-central-1", SECRET_KEY)]
    assert SECRET_KEY not in url


def test_both_clients_get_tokens_for_msk_as_oauthbearer() -> None:
    settings = msk("us-east-1")
    options = aiokafka_options(settings)
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    assert isinstance(options["sasl_oauth_token_provider"], TokenProvider)
    of_librdkafka = librdkafka_options(read_credentials(settings))
    assert of_librdkafka["sasl.mechanism"] == "OAUTHBEARER"
    assert callable(of_librdkafka["oauth_cb"])


def test_without_credentials_of_aws_the_error_names_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_of_aws(monkeypatch, tmp_path)
    with pytest.raises(NoToken, match="in eu-north-1: AttributeError; are there credentials of"):
        librdkafka_callback(msk("eu-north-1"))("")


def test_an_error_of_the_library_shows_nothing_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_of_aws(monkeypatch, tmp_path, PROFILE="AKIDEXAMPLE")
    with pytest.raises(NoToken, match="in eu-south-1: ProfileNotFound") as found:
        librdkafka_callback(msk("eu-south-1"))("")
    assert "AKID" not in str(found.value)


def test_without_its_library_msk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("aws_msk_iam_sasl_signer", "aws_msk_iam_sasl_signer.MSKAuthTokenProvider"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidSetting, match=r"install tapewire\[msk-iam\]"):
        TokenProvider(msk("eu-west-1"))


def test_a_token_is_not_shown() -> None:
    assert "abc" not in f"{Token('abc', 5.0)!r}"
