import json
import stat
from pathlib import Path

import jwt
import pytest

from infra.demo_issuer import ISSUER, jwks_path, token


def claims_of(text: str, folder: Path) -> dict[str, object]:
    keys = json.loads(jwks_path(folder).read_text())["keys"]
    key = jwt.PyJWK(keys[0])
    return dict(jwt.decode(text, key, algorithms=["EdDSA"], issuer=ISSUER))


def test_a_token_is_verified_by_the_published_key(tmp_path: Path) -> None:
    claims = claims_of(token(tmp_path, "alice", "acme", 60), tmp_path)
    assert (claims["sub"], claims["tenant"]) == ("alice", "acme")
    assert claims["exp"] - claims["iat"] == 60  # type: ignore[operator]
    assert "tenant" not in claims_of(token(tmp_path, "bob", None, 60), tmp_path)


def test_the_key_is_kept_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = jwks_path(tmp_path).read_bytes()
    assert jwks_path(tmp_path).read_bytes() == first
    private = tmp_path / "issuer" / "private.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "d" not in json.loads(first)["keys"][0]


def test_a_token_of_another_installation_is_refused(tmp_path: Path) -> None:
    text = token(tmp_path / "other", "alice", None, 60)
    with pytest.raises(jwt.InvalidSignatureError):
        claims_of(text, tmp_path)
