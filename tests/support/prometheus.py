"""Prometheus and its tools, from PATH or from Debian's package, and a server that a test asks."""

import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.embedded_broker import free_port

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "infra" / "monitoring"
_UNPACKED = ROOT / "build" / "infra" / "debian"
_PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
_READY_S = 30.0


def binary(name: str) -> str:
    """Return the path of one of Prometheus' programs.

    One of PATH is taken. Else Debian's package is fetched by `apt-get download`, which checks its
    signature, and unpacked below `build`; nothing is installed.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    path = _UNPACKED / "usr" / "bin" / name
    if not path.exists():
        _unpack(_PACKAGES[name])
    return str(path)


def _command(name: str) -> Sequence[str]:
    """Return the command of a program that runs as it is unpacked.

    Debian's Alertmanager reads templates below `/usr/share`, where nothing is installed: it gets a
    view of the disk of its own, with its templates there.
    """
    path = binary(name)
    templates = _UNPACKED / "usr" / "share" / "prometheus" / "alertmanager"
    if name != "prometheus-alertmanager" or not path.startswith(str(_UNPACKED)):
        return (path,)
    script = (
        "mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus && "
        'ln -s "$0" /usr/share/prometheus/alertmanager && exec "$@"'
    )
    own_view = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    return (*own_view, str(templates), path)


def _unpack(package: str) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.fail(
            f"{package} is missing: install Prometheus 2.42 or newer, or run this on Debian, where "
            f"apt-get fetches it ({platform.platform()})"
        )
    _UNPACKED.mkdir(parents=True, exist_ok=True)
    for command in (
        ["apt-get", "download", "--quiet", package],
        ["sh", "-c", f"dpkg-deb --extract {package}_*.deb ."],
    ):
        done = subprocess.run(
            command, cwd=_UNPACKED, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, (
            f"{package} cannot be fetched; run apt-get update: {done.stderr}"
        )


def check(*command: str, cwd: Path = MONITORING, stdin: str | None = None) -> str:
    """Run one of the tools, and return what it prints; fail with that if it refuses."""
    name, *arguments = command
    done = subprocess.run(
        [binary(name), *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(base_url=f"{url}/api/v1")

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series that a query gives now."""
        answer = (await self._http.get("/query", params={"query": expr})).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    async def exemplars(self, expr: str, since_s: float, until_s: float) -> list[dict[str, Any]]:
        """Return the series of a query that have exemplars."""
        params = {"query": expr, "start": str(since_s), "end": str(until_s)}
        answer = (await self._http.get("/query_exemplars", params=params)).json()
        found: list[dict[str, Any]] = answer["data"]
        return found

    async def targets(self) -> list[dict[str, Any]]:
        """Return the active targets."""
        answer = (await self._http.get("/targets", params={"state": "active"})).json()
        found: list[dict[str, Any]] = answer["data"]["activeTargets"]
        return found

    async def rules(self) -> list[dict[str, Any]]:
        """Return all rules, as Prometheus has read them."""
        groups = (await self._http.get("/rules")).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def prometheus(
    folder: Path, target_files: Sequence[Path], alertmanager_url: str
) -> AsyncGenerator[Prometheus]:
    """Run Prometheus with the shipped configuration and rules, every two seconds."""
    config = yaml.safe_load((MONITORING / "prometheus.embedded.yaml").read_text())
    names = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config["global"] = dict.fromkeys(names, "2s")
    config["rule_files"] = [str(MONITORING / "rules.yaml")]
    [job] = config["scrape_configs"]
    job["file_sd_configs"][0] |= {"files": [str(path) for path in target_files]}
    job["tls_config"] = {"insecure_skip_verify": True}  # it asks a part of its own test
    [alertmanagers] = config["alerting"]["alertmanagers"]
    alertmanagers["static_configs"] = [{"targets": [alertmanager_url.removeprefix("http://")]}]
    options = (f"--storage.tsdb.path={folder / 'tsdb'}", "--enable-feature=exemplar-storage")
    async with _running("prometheus", folder, config, *options) as url:
        asked = Prometheus(url)
        try:
            yield asked
        finally:
            await asked.close()


@asynccontextmanager
async def alertmanager(folder: Path, webhook_url: str) -> AsyncGenerator[str]:
    """Run Alertmanager with the shipped configuration and another webhook; give its address."""
    config = yaml.safe_load((MONITORING / "alertmanager.yaml").read_text())
    [receiver] = config["receivers"]
    receiver["webhook_configs"][0]["url"] = webhook_url
    config["route"]["group_wait"] = "1s"
    options = (f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=")
    async with _running("prometheus-alertmanager", folder, config, *options) as url:
        yield url


@asynccontextmanager
async def _running(
    name: str, folder: Path, config: dict[str, Any], *options: str
) -> AsyncGenerator[str]:
    """Run a program with a configuration; give its address once it is ready."""
    path, log_path = folder / f"{name}.config", folder / f"{name}.log"
    path.write_text(json.dumps(config))  # which is YAML, too
    url = f"http://127.0.0.1:{free_port()}"
    listening = f"--web.listen-address={url.removeprefix('http://')}"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*_command(name), f"--config.file={path}", listening, *options),
            stdout=log,
            stderr=log,
            env=os.environ | {"GOMAXPROCS": "1"},
        )
    try:
        async with asyncio.timeout(_READY_S), httpx.AsyncClient() as http:
            while True:
                try:
                    if (await http.get(f"{url}/-/ready")).status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.returncode is None, log_path.read_text()
                await asyncio.sleep(0.1)  # it notifies nobody
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def selectors(expr: str) -> set[str]:
    """Return the selectors of series in a query, without ranges.

    Every metric of ours has `tapewire` in its name; beside them, `process_...` and `up` are used.
    """
    found = re.findall(
        r"(?<![\w:\"])((?:[a-z_]+:)?(?:tapewire|process)_[\w:]*|up)(?![\w:\"(])(\{[^}]*\})?", expr
    )
    return {name + labels for name, labels in found}
