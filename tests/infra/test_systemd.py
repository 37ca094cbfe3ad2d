import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import NotInstalled
from infra.modules import module_name
from infra.systemd import (
    SETTINGS,
    TARGETS,
    UNITS,
    USERS,
    WORKERS,
    ServerOptions,
    install,
    settings_file,
    units_of,
)

ALL = ServerOptions(edges=3, processors=2, workers=tuple(WORKERS))
WITHOUT_KAFKA = ServerOptions(workers=(), kafka=False)
analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="Debian's package is called systemd"
)


def values_of(unit: str, name: str) -> list[str]:
    """Return the values of a directive."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.partition("=")[0] == name]


def test_the_target_wants_each_part() -> None:
    wanted = values_of(units_of(ALL)["tapewire.target"], "Wants")
    assert wanted == [
        "tapewire-kafka.service",
        "tapewire-disk.service",
        "tapewire-topics.service",
        "tapewire-edge@8000.service",
        "tapewire-edge@8001.service",
        "tapewire-edge@8002.service",
        "tapewire-processor@1.service",
        "tapewire-processor@2.service",
        *(f"tapewire-{name}.service" for name in WORKERS),
    ]
    files = {name.partition("@")[0].partition(".")[0] for name in units_of(ALL)}
    assert {name.partition("@")[0].partition(".")[0] for name in wanted} == files - {"tapewire"}


def test_every_part_has_a_port_for_its_metrics_and_prometheus_finds_it(tmp_path: Path) -> None:
    install(tmp_path, ALL)
    rows = json.loads((tmp_path / TARGETS).read_text(encoding="utf-8"))
    found = {row["targets"][0].partition(":")[2]: row["labels"]["component"] for row in rows}
    edges = {"8000": "edge", "8001": "edge", "8002": "edge"}
    set_ports = {}
    for path in (tmp_path / UNITS).rglob("*.*"):
        for value in values_of(path.read_text() if path.is_file() else "", "Environment"):
            name, _, port = value.partition("=")
            if name == "TAPEWIRE_METRICS_PORT":
                unit = path.parent.name if path.name == "metrics.conf" else path.name
                set_ports[port] = unit.removeprefix("tapewire-").partition(".")[0].partition("@")[0]
    assert found == edges | set_ports
    assert len(found) == len(rows) == 1 + 3 + 2 + len(WORKERS)


def test_with_a_kafka_elsewhere_there_is_no_broker() -> None:
    units = units_of(WITHOUT_KAFKA)
    assert set(units) == {
        "tapewire.target",
        "tapewire-topics.service",
        "tapewire-edge@.service",
        "tapewire-processor@.service",
    }
    assert "KAFKA_BOOTSTRAP_SERVERS=kafka-1:9092\n" in settings_file(WITHOUT_KAFKA)


def test_parts_run_the_modules_of_this_installation() -> None:
    units = units_of(ALL)
    assert values_of(units["tapewire-edge@.service"], "ExecStart") == [
        f"{sys.executable} -m {module_name('sse_edge')}"
    ]
    assert values_of(units["tapewire-agents.service"], "ExecStart") == [
        f"{sys.executable} -m {module_name('producers')} orchestrator"
    ]


def test_a_path_keeps_its_blanks_and_signs() -> None:
    units = units_of(WITHOUT_KAFKA, Path("/opt/a b/100%/python"))
    (command,) = values_of(units["tapewire-topics.service"], "ExecStart")
    assert command.startswith('"/opt/a b/100%%/python" -m ')


@pytest.mark.parametrize(
    ("python", "homes"), [("/opt/tapewire/bin/python", "yes"), ("/home/a/bin/python", "read-only")]
)
def test_homes_are_hidden_unless_python_is_there(python: str, homes: str) -> None:
    for name, unit in units_of(ALL, Path(python)).items():
        if name.endswith(".service"):
            assert values_of(unit, "ProtectHome") == [homes]
            assert values_of(unit, "User") == ["tapewire"]


def test_an_installation_keeps_settings_that_are_there(tmp_path: Path) -> None:
    install(tmp_path, ALL)
    settings = tmp_path / SETTINGS
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    settings.write_text("KAFKA_BOOTSTRAP_SERVERS=mine:9092\n", encoding="utf-8")
    (tmp_path / UNITS / "tapewire.target").write_text("old", encoding="utf-8")
    lines = install(tmp_path, WITHOUT_KAFKA)
    assert f"kept {settings}" in lines
    assert settings.read_text(encoding="utf-8") == "KAFKA_BOOTSTRAP_SERVERS=mine:9092\n"
    assert (tmp_path / UNITS / "tapewire.target").read_text(encoding="utf-8") != "old"
    assert (tmp_path / USERS).read_text(encoding="utf-8").startswith("u tapewire - ")


def test_each_installation_has_a_secret_of_its_own() -> None:
    secrets = {values_of(settings_file(ALL), "TAPEWIRE_CURSOR_SECRET")[0] for _ in range(3)}
    assert len(secrets) == 3
    assert min(map(len, secrets)) >= 24


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file", encoding="utf-8")
    with pytest.raises(NotInstalled, match="run the command as root, or name a folder"):
        install(tmp_path, ALL)


def written(folder: Path, options: ServerOptions) -> list[str]:
    """Write units that refer to nothing outside of the folder, and return their paths."""
    paths = []
    for name, text in units_of(options).items():
        path = folder / name.replace("@.", "@8000.")
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths


@analyze
@pytest.mark.parametrize("options", [ALL, WITHOUT_KAFKA])
def test_systemd_finds_nothing_to_mend(options: ServerOptions, tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one"]
    checked = subprocess.run(
        [*command, *written(tmp_path, options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in checked.stderr.splitlines() if "tapewire" in line]
    assert [line for line in ours if "not found" not in line] == []


@analyze
def test_the_units_expose_little(tmp_path: Path) -> None:
    services = [path for path in written(tmp_path, ALL) if path.endswith(".service")]
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager"]
    checked = subprocess.run(
        [*command, *services], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout[-2000:] + checked.stderr
