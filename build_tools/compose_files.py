"""Makes the files that the compose file needs: `python -m build_tools.compose_files [FOLDER]`.

They are certificates of an authority of their own, a password for each user of Kafka, the key of
`tapewire token`, and `env` with the secrets that services get as environment variables. Existing
files are kept, so a second run changes nothing. Only its owner can open the folder; all users can
read the files in it, since containers run as another user.
"""

import argparse
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from infra.demo_issuer import jwks_path
from infra.embedded_broker import new_cluster_id

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "infra" / "compose"
FOLDER = ROOT / "build" / "compose"

BROKERS = (1, 2, 3)
OUTSIDE_PORTS = (19091, 19092, 19093)
USERS = (
    "admin",
    "provision",
    "edge",
    "processor",
    "trainer",
    "backtester",
    "agents",
    "notifier",
    "market",
    "demo",
    "reporter",
)
"""The users of Kafka: one who may do everything, the parts, and programs with the reporter API."""
_OTHERS = ("grafana",)

_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKERS
# Parts connect to CLIENTS, programs on this host to OUTSIDE, brokers to the other two.
listeners=CLIENTS://:9092,CONTROLLER://:9093,BROKERS://:9094,OUTSIDE://:9095
advertised.listeners=CLIENTS://kafka-{node}:9092,BROKERS://kafka-{node}:9094,OUTSIDE://localhost:{port}
listener.security.protocol.map=CLIENTS:SASL_SSL,OUTSIDE:SASL_SSL,CONTROLLER:SSL,BROKERS:SSL
listener.name.controller.ssl.client.auth=required
listener.name.brokers.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location=/etc/kafka/node.pem
ssl.truststore.type=PEM
ssl.truststore.location=/etc/kafka/ca.pem
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config={login}
listener.name.outside.scram-sha-512.sasl.jaas.config={login}
# Each user may do what its ACLs say; a broker is the user that its certificate names.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
ssl.principal.mapping.rules=RULE:^.*CN=([^,]*).*$/$1/,DEFAULT
super.users={super_users}
log.dirs=/data/log
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.num.partitions=12
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=12
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.min.session.timeout.ms=1000
# How long the end of a transaction waits for a broker that is cut off.
request.timeout.ms=10000
"""
_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files that are missing, and print how to start."""
    parser = argparse.ArgumentParser(prog="python -m build_tools.compose_files")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder: Path = parser.parse_args(arguments).folder.resolve()
    make(folder)
    print(f"certificates and passwords are in {folder}; keep it to yourself")
    print(f"docker-compose -f {COMPOSE / 'compose.yaml'} --env-file {folder / 'env'} up -d")
    return 0


def make(folder: Path) -> None:
    """Make the files that are missing in a folder."""
    if (folder / "env").exists():
        if not (folder / "passwords" / "admin").exists():
            raise SystemExit(
                f"{folder} is of an earlier version, whose brokers had no ACLs; remove it, and the "
                "volumes of its brokers with their events"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _certificates(folder)
    passwords = folder / "passwords"
    passwords.mkdir(exist_ok=True)
    for user in (*USERS, *_OTHERS):
        _write(passwords / user, secrets.token_urlsafe(24))
    lines = [f"{user}={(passwords / user).read_text(encoding='utf-8')}\n" for user in USERS]
    _write(folder / "users", "".join(lines))
    for node in BROKERS:
        _write(folder / f"kafka-{node}.properties", properties_of(node))
    jwks_path(folder).chmod(0o644)
    env = {
        "TAPEWIRE_FILES": str(folder),
        "TAPEWIRE_CLUSTER_ID": new_cluster_id(),
        "TAPEWIRE_CURSOR_SECRET": secrets.token_urlsafe(32),
        "TAPEWIRE_NOTIFICATION_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    _write(folder / "env", "".join(f"{name}={value}\n" for name, value in env.items()))


def properties_of(node: int) -> str:
    """Return the properties of a broker, by its number from 1 on."""
    return _PROPERTIES.format(
        node=node,
        port=OUTSIDE_PORTS[node - 1],
        voters=",".join(f"{number}@kafka-{number}:9093" for number in BROKERS),
        login=_LOGIN,
        super_users=";".join(
            f"User:{name}" for name in ("admin", *map("kafka-{}".format, BROKERS))
        ),
    )


def _certificates(folder: Path) -> None:
    authority = trustme.CA(organization_name="Tapewire's compose file")
    _write(folder / "ca.pem", authority.cert_pem.bytes().decode())
    names = {f"kafka-{node}": (f"kafka-{node}", "localhost") for node in BROKERS}
    for name, hosts in (names | {"nginx": ("localhost", "127.0.0.1")}).items():
        made = authority.issue_cert(*hosts, common_name=name)
        key = load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        _write(folder / f"{name}.pem", (key + chain).decode())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


if __name__ == "__main__":
    sys.exit(main())
