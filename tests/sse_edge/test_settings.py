import pytest
from pydantic import SecretStr

from kafka_io.errors import InvalidSetting
from sse_edge.settings import EdgeSettings


def test_an_edge_without_authentication_listens_on_loopback_only() -> None:
    assert EdgeSettings(host="127.0.0.1").issues is None
    with pytest.raises(InvalidSetting, match="there is no authentication"):
        EdgeSettings(host="0.0.0.0")  # noqa: S104
    closed = EdgeSettings(host="0.0.0.0", jwt_issuer="me", jwt_jwks="keys.json")  # noqa: S104
    assert closed.issues is not None


@pytest.mark.parametrize(
    "settings",
    [{"jwt_issuer": "me"}, {"jwt_issuer": "me", "jwt_jwks": "k", "jwt_hs256_secret": "s" * 32}],
)
def test_an_issuer_has_one_kind_of_key(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting, match="needs one of TAPEWIRE_JWT_JWKS"):
        EdgeSettings(**settings)  # type: ignore[arg-type]


def test_a_firebase_project_determines_issuer_audience_and_keys() -> None:
    rules = EdgeSettings(firebase_project="p").issues
    assert rules is not None
    assert (rules.issuer, rules.audience) == ("https://securetoken.google.com/p", "p")


def test_the_demos_keys_do_not_require_a_token() -> None:
    rules = EdgeSettings(demo_jwks="keys.json").issues
    assert rules is not None
    assert rules.is_demo


def test_origins_are_a_list_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_CORS_ORIGINS", "https://a.example, https://b.example,")
    assert EdgeSettings().cors_origins == ("https://a.example", "https://b.example")
    monkeypatch.setenv("TAPEWIRE_CORS_ORIGINS", "")
    assert EdgeSettings().cors_origins == ()


def test_an_edge_is_open_until_it_has_an_issuer_of_its_own() -> None:
    assert EdgeSettings().is_open
    assert EdgeSettings(demo_jwks="keys.json").is_open
    assert not EdgeSettings(demo_jwks="keys.json", firebase_project="app").is_open


def test_a_secret_is_not_printed() -> None:
    settings = EdgeSettings(cursor_secret=SecretStr("hidden" * 3))
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"jwt_jwks": "k"}, "TAPEWIRE_JWT_JWKS is set, and TAPEWIRE_JWT_ISSUER is not"),
        ({"jwt_audience": "a"}, "TAPEWIRE_JWT_AUDIENCE is set, and TAPEWIRE_JWT_ISSUER is not"),
        ({"jwt_hs256_secret": "s" * 32}, "TAPEWIRE_JWT_HS256_SECRET is set, and TAPEWIRE_JWT_ISS"),
        (
            {"firebase_project": "p", "jwt_issuer": "i", "jwt_jwks": "k"},
            "TAPEWIRE_JWT_ISSUER contradicts TAPEWIRE_FIREBASE_PROJECT",
        ),
        ({"cors_origins": "*"}, r"TAPEWIRE_CORS_ORIGINS is \*, which would let"),
        ({"management_host": "::1"}, "TAPEWIRE_MANAGEMENT_PORT is not"),
        ({"port": 9000, "management_port": 9000}, "TAPEWIRE_MANAGEMENT_PORT is 9000, as"),
        (
            {"management_host": "192.0.2.1", "management_port": 9000},
            "TAPEWIRE_MANAGEMENT_HOST is 192.0.2.1, but there is no authentication",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidSetting, match=why):
        EdgeSettings(**settings)  # type: ignore[arg-type]
