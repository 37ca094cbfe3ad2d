"""Units of systemd for a single server without containers: one a part, and a target for all.

    tapewire.target ──▶ tapewire-kafka ──▶ tapewire-topics ──▶ tapewire-edge@PORT,
                                           tapewire-processor@NUMBER, tapewire-trainer, ...

All read one file of settings. `install` only writes files; the operator starts the units.
"""

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.installed_files import write_file
from infra.modules import module_name
from infra.prometheus_targets import Target, text_of

UNITS = Path("etc/systemd/system")
SETTINGS = Path("etc/tapewire/tapewire.env")
TARGETS = Path("etc/tapewire/prometheus.json")
"""Where Prometheus finds the metrics of the units."""
USERS = Path("etc/sysusers.d/tapewire.conf")
DATA = Path("/var/lib/tapewire")
WORKERS: Mapping[str, tuple[str, Sequence[str]]] = {
    "trainer": ("Trains models on command", ("producers", "trainer")),
    "backtester": ("Runs backtests on command", ("producers", "backtester")),
    "agents": ("Answers messages by agents", ("producers", "orchestrator")),
    "notifier": ("Sends alerts to people and systems", ("stream_processors.notifications",)),
    "demo": ("Replays the demo's prices", ("producers", "demo")),
}
"""The parts that run as one process, each with its description, module and arguments."""
DISK_METRICS_PORT = 9400
WORKERS_METRICS_FROM = 9401
PROCESSORS_METRICS_FROM = 9411
"""The ports of loopback with the metrics: of the broker's disk, of the first worker of `WORKERS`,
and of processor 1. An edge has its metrics on its own port."""
_KAFKA = "127.0.0.1:9092"
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_USER = "tapewire"
_HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
UMask=0077
"""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options of a server: its parts, and how many of them."""

    edges: int = 1
    port: int = 8000
    """The port of the first edge; the others have the next ones."""
    processors: int = 1
    workers: Sequence[str] = ("trainer", "backtester", "agents", "notifier")
    kafka: bool = True
    """Whether the server has the embedded broker; else the file of settings names yours."""


def units_of(options: ServerOptions, python: Path | None = None) -> Mapping[str, str]:
    """Return the text of each unit by the name of its file.

    Args:
        options: the parts.
        python: the interpreter that has Tapewire; None for this one.
    """
    executable = Path(sys.executable) if python is None else python
    return {
        f"{name}.{'target' if name == 'tapewire' else 'service'}": text
        for name, text in _units(options, executable)
    }


def _units(options: ServerOptions, python: Path) -> Iterator[tuple[str, str]]:
    started = ["tapewire-topics"]
    before = "tapewire-topics.service"
    if options.kafka:
        started = ["tapewire-kafka", "tapewire-disk", *started]
        yield (
            "tapewire-kafka",
            _service(
                "Tapewire: the embedded Kafka broker",
                _command(python, "infra.kafka_service"),
                "Type=exec\nRestart=on-failure\nRestartSec=2\nTimeoutStopSec=60\n"
                "SuccessExitStatus=143\nLimitNOFILE=65536\n",
                python,
            ),
        )
        yield (
            "tapewire-disk",
            _service(
                "Tapewire: the metrics of the embedded broker's disk",
                _command(python, "infra.disk_service"),
                _metrics(DISK_METRICS_PORT) + "Type=exec\nRestart=always\nRestartSec=2\n",
                python,
            ),
        )
    yield (
        "tapewire-topics",
        _service(
            "Tapewire: create the topics that are missing",
            _command(python, "cli", "topics", "create"),
            "Type=oneshot\nRemainAfterExit=yes\nRestart=on-failure\nRestartSec=5\n"
            "TimeoutStartSec=300\n",
            python,
            after="tapewire-kafka.service",
        ),
    )
    yield (
        "tapewire-edge@",
        _service(
            "Tapewire: an edge on port %i",
            _command(python, "sse_edge"),
            "Environment=TAPEWIRE_PORT=%i\nTimeoutStopSec=60\nLimitNOFILE=65536\n" + _NOTIFYING,
            python,
            after=before,
        ),
    )
    yield (
        "tapewire-processor@",
        _service(
            "Tapewire: processor %i",
            _command(python, "stream_processors"),
            "Environment=TAPEWIRE_WORKER_ID=processor-%i\nTimeoutStopSec=60\n" + _NOTIFYING,
            python,
            after=before,
        ),
    )
    started += [f"tapewire-edge@{options.port + number}" for number in range(options.edges)]
    started += [f"tapewire-processor@{number + 1}" for number in range(options.processors)]
    for name in options.workers:
        description, (module, *arguments) = WORKERS[name]
        environment = _metrics(_worker_port(name))
        if name == "trainer":
            environment += f"Environment=TAPEWIRE_MODELS_DIR={DATA}/models\n"
        yield (
            f"tapewire-{name}",
            _service(
                f"Tapewire: {description[0].lower()}{description[1:]}",
                _command(python, module, *arguments),
                f"{environment}TimeoutStopSec=60\n" + _NOTIFYING,
                python,
                after=before,
            ),
        )
        started.append(f"tapewire-{name}")
    wants = "".join(f"Wants={name}.service\n" for name in started)
    unit = f"[Unit]\nDescription=Tapewire: all parts on this server\n{wants}\n"
    yield "tapewire", unit + "[Install]\nWantedBy=multi-user.target\n"


def drop_ins_of(options: ServerOptions) -> Mapping[str, str]:
    """Return what a processor's instance has beside its template, by the name of the file."""
    return {
        f"tapewire-processor@{number + 1}.service.d/metrics.conf": "[Service]\n"
        + _metrics(PROCESSORS_METRICS_FROM + number)
        for number in range(options.processors)
    }


def targets_of(options: ServerOptions) -> list[Target]:
    """Return where the parts show their metrics."""
    edges = [Target("edge", options.port + number) for number in range(options.edges)]
    processors = range(PROCESSORS_METRICS_FROM, PROCESSORS_METRICS_FROM + options.processors)
    workers = [Target(name, _worker_port(name)) for name in options.workers]
    disk = [Target("disk", DISK_METRICS_PORT)] if options.kafka else []
    return [*disk, *edges, *(Target("processor", port) for port in processors), *workers]


def _worker_port(name: str) -> int:
    return WORKERS_METRICS_FROM + list(WORKERS).index(name)


def _metrics(port: int) -> str:
    return f"Environment=TAPEWIRE_METRICS_PORT={port}\n"


_NOTIFYING = "Type=notify\nNotifyAccess=all\nTimeoutStartSec=180\nRestart=always\nRestartSec=2\n"
"""The parts report when they are ready; of an edge with `--workers`, each process does."""


def _service(description: str, command: str, service: str, python: Path, *, after: str = "") -> str:
    # In a virtual environment it is a link to an interpreter elsewhere.
    places = (python, python.resolve())
    is_below_home = any(place.is_relative_to(home) for place in places for home in _HOMES)
    hardening = _HARDENING.format(home="read-only" if is_below_home else "yes")
    order = f"Wants={after}\nAfter={after}\n" if after else ""
    return (
        f"[Unit]\nDescription={description}\nPartOf=tapewire.target\n"
        f"Wants=network-online.target\nAfter=network-online.target\n{order}"
        "StartLimitIntervalSec=0\n\n"
        f"[Service]\nUser={_USER}\nGroup={_USER}\nStateDirectory=tapewire\n"
        f"StateDirectoryMode=0700\nWorkingDirectory={DATA}\n"
        f"Environment=TAPEWIRE_DATA_DIR={DATA} HOME={DATA} PYTHONUNBUFFERED=1\n"
        f"EnvironmentFile=/{SETTINGS}\nExecStart={command}\n{service}{hardening}"
    )


def _command(python: Path, module: str, *arguments: str) -> str:
    """Return a command line whose characters systemd does not interpret."""
    parts = (str(python), "-m", module_name(module), *arguments)
    return " ".join(_quoted(part) for part in parts)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if " " in text or escaped != text else text


def settings_file(options: ServerOptions) -> str:
    """Return the text of a new file of settings, with a secret of its own."""
    servers = _KAFKA if options.kafka else "kafka-1:9092"
    return (
        "# Settings of all parts of Tapewire on this server, one `NAME=value` a line;\n"
        "# docs/reference/settings.md lists them. Restart the parts after a change:\n"
        "#   systemctl restart 'tapewire-*'\n"
        f"KAFKA_BOOTSTRAP_SERVERS={servers}\n"
        f"TAPEWIRE_CURSOR_SECRET={secrets.token_urlsafe(24)}\n"
        "# Without an issuer of tokens, edges listen on 127.0.0.1 and serve every client there.\n"
        "#TAPEWIRE_JWT_ISSUER=https://issuer.example\n"
        "#TAPEWIRE_JWT_JWKS=https://issuer.example/keys\n"
        "# The proxy on this server that forwards clients.\n"
        "#TAPEWIRE_TRUSTED_PROXIES=127.0.0.1\n"
    )


def install(root: Path, options: ServerOptions) -> Sequence[str]:
    """Write units, the user's entry and the file of settings; return a line for each.

    A file of settings that is there stays as it is. Units that are there are replaced.

    Args:
        root: the root of the file system, or the folder of a package.
        options: the parts.

    Raises:
        NotInstalled: a file cannot be written.
    """
    units = {**units_of(options), **drop_ins_of(options)}
    files = {str(UNITS / name): text for name, text in units.items()}
    files[str(TARGETS)] = text_of(targets_of(options))
    files[str(USERS)] = f'u {_USER} - "Tapewire" {DATA}\n'
    lines = []
    for name, text in files.items():
        write_file(root / name, text, 0o644)
        lines.append(f"wrote {root / name}")
    if (root / SETTINGS).exists():
        lines.append(f"kept {root / SETTINGS}")
    else:
        write_file(root / SETTINGS, settings_file(options), 0o600)
        lines.append(f"wrote {root / SETTINGS}: look through it")
    return lines
