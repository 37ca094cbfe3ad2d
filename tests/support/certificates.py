"""Certificates of a test's own authority, as files, made when the test runs."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, each in a file of PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str) -> Identity:
        return self._write("server", self._authority.issue_cert(*names))

    def client(self, name: str) -> Identity:
        """Return an identity whose subject is `CN=<name>` besides trustme's own parts."""
        made = self._authority.issue_cert(f"{name}.client.test", common_name=name)
        return self._write(name, made)

    def _write(self, name: str, made: trustme.LeafCert) -> Identity:
        identity = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        identity.certificate.write_bytes(chain)
        # Kafka reads keys in PKCS#8 only.
        identity.key.write_bytes(_pkcs8(made.private_key_pem.bytes()))
        identity.key.chmod(0o600)
        return identity


def encrypted(key: Path, password: str) -> Path:
    """Write an encrypted copy of a key beside it."""
    loaded = load_pem_private_key(key.read_bytes(), None)
    path = key.with_suffix(".encrypted")
    path.write_bytes(
        loaded.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
        )
    )
    return path


def _pkcs8(pem: bytes) -> bytes:
    loaded = load_pem_private_key(pem, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
