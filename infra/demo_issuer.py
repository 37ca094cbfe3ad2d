"""A demo issuer: tokens for a system that runs on one machine, signed by a key of its own.

Its key pair is made when it is first needed, and kept in the data directory. Edges take its tokens
only where no other issuer is configured.
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


def jwks_path(data_dir: Path) -> Path:
    """The public key, as a JSON Web Key Set; made where there is none yet."""
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


def token(data_dir: Path, subject: str, tenant: str | None, seconds: float) -> str:
    """A token that says who somebody is, for so long."""
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
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": _KEY_ID})
