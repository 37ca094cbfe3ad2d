"""`tapewire install`: writes units of systemd, and the files for monitoring, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import AsJson, print_json, print_line, print_lines, reasons, settings_of
from infra import data_dir
from infra.installed_monitoring import install_monitoring
from infra.systemd import (
    SETTINGS,
    TARGETS as UNITS_TARGETS,
    UNITS,
    WORKERS,
    ServerOptions,
    install as install_units,
)

_DEFAULT_WORKERS = list(ServerOptions().workers)
_PORT_MAX = 65_535
_OF_UNITS = Path("/") / UNITS_TARGETS


def install(
    systemd: Annotated[  # noqa: FBT002  # a flag of the command line
        bool, typer.Option("--systemd", help="Write units of systemd.", show_default=False)
    ] = False,
    monitoring: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write rules, configurations and dashboards for Prometheus, Alertmanager and "
            "Grafana into this folder.",
        ),
    ] = None,
    edges: Annotated[int, typer.Option(min=1, max=64, help="The number of edge nodes.")] = 1,
    port: Annotated[
        int,
        typer.Option(
            min=1024,
            max=_PORT_MAX,
            help="The port of the first edge; the others have the next ones.",
        ),
    ] = 8000,
    processors: Annotated[
        int, typer.Option(min=0, max=64, help="The number of stream processors.")
    ] = 1,
    worker: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A further part, of {', '.join(WORKERS)}; repeat it for several.  "
            f"[default: {', '.join(_DEFAULT_WORKERS)}]",
            show_default=False,
        ),
    ] = None,
    kafka: Annotated[  # noqa: FBT002  # a flag of the command line
        bool,
        typer.Option(
            "--kafka/--no-kafka",
            help="Run the embedded broker on this server, or use the Kafka that the settings name.",
        ),
    ] = True,
    root: Annotated[
        Path, typer.Option(help="The root of the file system, or the folder of a package.")
    ] = Path("/"),
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Write units of systemd for the parts of this server, or the files that monitoring needs.

    A file of settings that is there stays as it is, and so does a file for monitoring that you have
    changed; units are replaced. Nothing is started. The configuration of Prometheus reads the
    targets of the units, or without --systemd those that `tapewire up` writes to TAPEWIRE_DATA_DIR.
    """
    if not systemd and monitoring is None:
        raise typer.BadParameter("say what to write, as --systemd or --monitoring DIR")
    workers = _DEFAULT_WORKERS if worker is None else worker
    for name in workers:
        if name not in WORKERS:
            raise typer.BadParameter(
                f"{name} is none of {', '.join(WORKERS)}", param_hint="--worker"
            )
    last = port + edges - 1
    if last > _PORT_MAX:
        raise typer.BadParameter(
            f"{edges} edges need the ports {port} to {last}; the last one is {_PORT_MAX}",
            param_hint="--port",
        )
    options = ServerOptions(edges, port, processors, tuple(dict.fromkeys(workers)), kafka)
    lines: list[str] = []
    with reasons():
        if systemd:
            lines += install_units(root, options)
        if monitoring is not None:
            running = settings_of(None).data_dir / data_dir.TARGETS
            lines += install_monitoring(monitoring, _OF_UNITS if systemd else running)
    if json:
        made = {"settings": f"/{SETTINGS}", "target": "tapewire.target"} if systemd else {}
        print_json({"files": lines} | made)
        return
    print_lines(lines)
    if monitoring is not None:
        print_line(
            f"then:\n  prometheus --config.file {monitoring}/prometheus.embedded.yaml\n"
            f"  alertmanager --config.file {monitoring}/alertmanager.yaml"
        )
    if not systemd:
        return
    print_line(
        f"look through /{SETTINGS}, then:\n"
        "  systemd-sysusers && systemctl daemon-reload\n"
        "  systemctl enable --now tapewire.target\n"
        f"the units in /{UNITS} run as the user tapewire, with data in /var/lib/tapewire"
    )
