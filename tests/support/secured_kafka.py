"""A broker with TLS, SASL and an authorizer, its users, and the issuer of its tokens.

Beside the listener in plain text, where tests are the super user, it has one with SCRAM and PLAIN,
one with client certificates, and one with tokens. Sessions are short, so that a test sees them end.
"""

import base64
import json
import subprocess
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jwt
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from infra.acls import Grant
from infra.embedded_broker import free_port, prepare
from infra.settings import InfraSettings
from infra.topics import wait_for_kafka
from tests.support.certificates import Authority, Identity
from tests.support.local_server import QuietHandler, serving

SESSION_S = 5.0
"""How long a connection stays authenticated."""
_AUDIENCE = "kafka"
_START_S = 60.0
_STOP_S = 30.0


@dataclass
class TokenIssuer:
    """Issues tokens by client credentials, and shows the key to check them with."""

    url: str = ""
    life_s: float = 3600.0
    secrets: dict[str, str] = field(default_factory=dict)
    """The secret of each client, which is its principal in Kafka, too."""
    issued: int = 0
    is_away: bool = False

    @contextmanager
    def serving(self) -> Generator["TokenIssuer"]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
        keys = {"keys": [{**public, "kid": "k", "alg": "RS256", "use": "sig"}]}
        issuer = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:  # noqa: N802  # the library calls it
                self._answer(200, keys)

            def do_POST(self) -> None:  # noqa: N802  # the library calls it
                self.rfile.read(int(self.headers["Content-Length"]))
                client = issuer.client_of(self.headers["Authorization"])
                if issuer.is_away or client is None:
                    self._answer(503 if issuer.is_away else 401, {"error": "invalid_client"})
                    return
                now_s = time.time()
                claims = {"sub": client, "aud": _AUDIENCE, "iat": now_s, "scope": "kafka"}
                claims["exp"] = now_s + issuer.life_s
                token = jwt.encode(claims, key, "RS256", {"kid": "k"})
                issuer.issued += 1
                self._answer(200, {"access_token": token, "expires_in": issuer.life_s})

            def _answer(self, status: int, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        with serving(Handler) as address:
            self.url = address
            yield self

    def client_of(self, authorization: str) -> str | None:
        user = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        client, _, secret = (unquote(part) for part in user.partition(":"))
        return client if self.secrets.get(client) == secret else None


@dataclass
class SecuredKafka:
    """The broker, with its addresses."""

    plain: str
    """The address where everybody is the super user."""
    with_password: str
    with_certificate: str
    with_token: str
    authority: Authority
    issuer: TokenIssuer
    folder: Path
    certificates: dict[str, Identity] = field(default_factory=dict)

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.plain, "log_level": 0})

    def set_password(self, user: str, password: str) -> None:
        """Set the password of a user of SCRAM."""
        changes = [
            UserScramCredentialUpsertion(
                user, ScramCredentialInfo(mechanism, 4096), password.encode()
            )
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        ]
        for change in changes:  # one of a user at a time
            for answer in self.admin.alter_user_scram_credentials([change]).values():
                answer.result()

    def scram(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """Return the settings of a user whose password is in a file."""
        password = self.folder / f"{user}.password"
        if not password.exists():
            password.write_text(f"password-of-{user}\n", encoding="utf-8")
            self.set_password(user, f"password-of-{user}")
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.with_password,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(password),
            "KAFKA_SSL_CA_FILE": str(self.authority.file),
        }

    def certificate(self, user: str) -> dict[str, str]:
        """Return the settings of a user with a certificate."""
        identity = self.certificates.setdefault(user, self.authority.client(user))
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.with_certificate,
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CA_FILE": str(self.authority.file),
            "KAFKA_SSL_CERTIFICATE_FILE": str(identity.certificate),
            "KAFKA_SSL_KEY_FILE": str(identity.key),
        }

    def token(self, user: str) -> dict[str, str]:
        """Return the settings of a user with tokens."""
        self.issuer.secrets[user] = f"secret of {user}"
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.with_token,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA_OAUTH_TOKEN_URL": f"{self.issuer.url}/token",
            "KAFKA_OAUTH_CLIENT_ID": user,
            "KAFKA_OAUTH_CLIENT_SECRET": self.issuer.secrets[user],
            "KAFKA_SSL_CA_FILE": str(self.authority.file),
        }

    def allow(self, bindings: Iterable[AclBinding]) -> None:
        """Add ACLs."""
        added = list(bindings)
        if added:
            for answer in self.admin.create_acls(added).values():
                answer.result()

    def allow_all(self, user: str) -> None:
        """Let a user do everything with topics, groups and transactional ids."""
        self.allow(
            binding(f"User:{user}", kind, "*", AclOperation.ALL)
            for kind in (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
        )

    def forbid(self, bindings: Iterable[AclBinding]) -> None:
        """Remove ACLs that were added."""
        filters = [_filter(acl) for acl in bindings]
        for answer in self.admin.delete_acls(filters).values():
            assert answer.result()


def bindings(principal: str, grants: Iterable[Grant]) -> list[AclBinding]:
    """Return the ACLs of a principal as a client of Kafka names them."""
    return [
        binding(
            f"User:{principal}",
            ResourceType[grant.resource.name],
            grant.name,
            AclOperation[grant.operation.name],
            ResourcePatternType.PREFIXED if grant.is_prefix else ResourcePatternType.LITERAL,
        )
        for grant in grants
    ]


def binding(
    principal: str,
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> AclBinding:
    return AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)


def _filter(acl: Any) -> AclBindingFilter:
    where = (acl.restype, acl.name, acl.resource_pattern_type)
    return AclBindingFilter(*where, acl.principal, acl.host, acl.operation, acl.permission_type)


@contextmanager
def secured_kafka(folder: Path, plain_users: Mapping[str, str]) -> Generator[SecuredKafka]:
    """Run a broker.

    Args:
        folder: takes its data, certificates and log.
        plain_users: the passwords of users of PLAIN.
    """
    authority = Authority(folder)
    server = authority.server("localhost", "127.0.0.1")
    store = folder / "server-store.pem"
    store.write_bytes(server.key.read_bytes() + server.certificate.read_bytes())
    port = free_port()
    ports = [free_port(port + 10), free_port(port + 20), free_port(port + 30)]
    with TokenIssuer().serving() as issuer:
        properties = _properties(port, ports, authority, store, issuer, plain_users)
        broker = prepare(
            folder / "kafka", port, maven_url=InfraSettings().maven_url, properties=properties
        )
        java, *rest = broker.command
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.url}/jwks"
        broker = replace(broker, command=(java, allowed, *rest))
        with (folder / "kafka.log").open("ab") as log:
            process = subprocess.Popen(broker.command, stdout=log, stderr=log)
        try:
            wait_for_kafka(f"127.0.0.1:{port}", within_s=_START_S)
            password, certificate, token = (f"localhost:{number}" for number in ports)
            yield SecuredKafka(
                *(f"127.0.0.1:{port}", password, certificate, token),
                *(authority, issuer, folder),
            )
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _properties(
    port: int,
    ports: list[int],
    authority: Authority,
    store: Path,
    issuer: TokenIssuer,
    plain_users: Mapping[str, str],
) -> dict[str, str]:
    module = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{password}"' for name, password in plain_users.items())
    controller = free_port(port + 1)
    listeners: dict[str, Any] = dict(zip(("PASSWORD", "CERTIFICATE", "TOKEN"), ports, strict=True))
    named = [f"{name}://localhost:{number}" for name, number in listeners.items()]
    oauth = "listener.name.token.oauthbearer.sasl"
    return {
        "controller.quorum.voters": f"1@localhost:{controller}",
        "listeners": ",".join(
            [f"PLAINTEXT://127.0.0.1:{port}", f"CONTROLLER://127.0.0.1:{controller}", *named]
        ),
        "advertised.listeners": ",".join([f"PLAINTEXT://127.0.0.1:{port}", *named]),
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "PASSWORD:SASL_SSL,CERTIFICATE:SSL,TOKEN:SASL_SSL",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "connections.max.reauth.ms": str(int(SESSION_S * 1000)),
        "connection.failed.authentication.delay.ms": "20",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]*).*$/$1/,DEFAULT",
        "listener.name.certificate.ssl.client.auth": "required",
        "listener.name.password.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.password.plain.sasl.jaas.config": (
            f"{module}.plain.PlainLoginModule required {users};"
        ),
        **{
            f"listener.name.password.{mechanism}.sasl.jaas.config": (
                f"{module}.scram.ScramLoginModule required;"
            )
            for mechanism in ("scram-sha-256", "scram-sha-512")
        },
        "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{oauth}.jaas.config": f"{module}.oauthbearer.OAuthBearerLoginModule required;",
        f"{oauth}.server.callback.handler.class": (
            f"{module}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        f"{oauth}.oauthbearer.jwks.endpoint.url": f"{issuer.url}/jwks",
        f"{oauth}.oauthbearer.expected.audience": _AUDIENCE,
    }
