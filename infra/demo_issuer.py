"""The demo issuer: signs tokens for a system on one machine with its own key.

The key pair is created at first use, and kept in the data directory. Edges accept its tokens only
if no other issuer is configured.
"""

import json
import time
import uuid
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import OKPAlgorithm

ISSUER = "tapewire-demo"

_KEY_ID = "demo"


def exists(data_dir: Path) -> bool:
    """Return whether a data directory has a key to sign with."""
    return (data_dir / "issuer" / "private.pem").exists()


def jwks_path(data_dir: Path) -> Path:
    """Return the file of the public key, a JSON Web Key Set, and create it at first use."""
    folder = data_dir / "issuer"
    public, private = folder / "jwks.json", folder / "private.pem"
    if not public.exists():
        folder.mkdir(parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        shown = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        described = shown | {"kid": _KEY_ID, "use": "sig", "alg": "EdDSA"}
        public.write_text(json.dumps({"keys": [described]}), encoding="utf-8")
    return public


def token(
    data_dir: Path, subject: str, tenant: str | None, seconds: float, scope: str | None = None
) -> str:
    """Return a token of a user that expires after some seconds.

    Args:
        data_dir: the folder of the key.
        subject: the user.
        tenant: the user's tenant, if there is one.
        seconds: how long the token is valid.
        scope: the scopes that the token allows, with spaces between them; None for all.
    """
    private = jwks_path(data_dir).with_name("private.pem").read_bytes()
    now_s = int(time.time())
    claims: dict[str, object] = {
        "iss": ISSUER,
        "sub": subject,
        "iat": now_s,
        "exp": now_s + int(seconds),
        "jti": str(uuid.uuid4()),
    }
    if tenant is not None:
        claims["tenant"] = tenant
    if scope is not None:
        claims["scope"] = scope
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": _KEY_ID})
