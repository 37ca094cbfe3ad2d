"""The units under a real systemd: `make systemd-test`, as root, with Debian's `systemd-container`.

The wheel is installed as the guide says, in a container of systemd-nspawn. It has the files of this
machine below a layer in memory, and no network but loopback, so nothing of it stays. The account is
printed, and the exit is 1 where a unit does not do what it should.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from infra.systemd import TARGETS

ROOT = Path(__file__).parents[1]
PACKAGE = Path("/opt/tapewire")
EDGES = (8000, 8001)
KILLED = ("tapewire-edge@8000", "tapewire-processor@1", "tapewire-trainer", "tapewire-kafka")
_WITHIN_S = 120.0
_PAUSE_S = 0.2
_INSIDE = "--inside"
_PASSED = ("PIP_", "UV_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_REPORT = """\
import asyncio, sys
from tapewire.producers import get_sse_broadcaster
async def report():
    async with get_sse_broadcaster() as broadcaster:
        await broadcaster.send_training_progress("t", 50.0, "running", sys.argv[1])
asyncio.run(report())
"""


class Container:
    """A container with a systemd of its own."""

    def __init__(self, layer: Path) -> None:
        self.root = layer / "root"
        self._layer = layer
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def make(self) -> None:
        """Lay a layer in memory over the files of this machine, without its services."""
        upper, work = self._layer / "upper", self._layer / "work"
        _run("mount", "-t", "tmpfs", "-o", "size=80%", "tmpfs", str(self._layer))
        for folder in (self.root, upper, work):
            folder.mkdir()
        options = f"lowerdir=/,upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))
        for folder in (self.root / "etc/systemd/system").glob("*.wants"):
            shutil.rmtree(folder)
        (self.root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n", encoding="utf-8")
        for folder in Path(sys.executable).resolve().parents:  # the units' user runs this Python
            here = self.root / folder.relative_to("/")
            here.chmod(here.stat().st_mode | 0o111)

    def prepare(self, script: str) -> None:
        """Run a script before systemd starts, in this machine's network."""
        passed = [
            f"--setenv={name}={value}"
            for name, value in os.environ.items()
            if name.upper().startswith(_PASSED)
        ]
        _run(*self._nspawn(), *passed, "--pipe", "bash", "-euc", script)

    def boot(self) -> None:
        """Start systemd."""
        command = (*self._nspawn(), "--private-network", "--console=pipe", "--boot")
        log = (self._layer / "log").open("wb")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        own = psutil.Process(self._process.pid)

        def has_init() -> bool:
            found = [child.pid for child in own.children() if child.name() == "systemd"]
            self._init = found[0] if found else 0
            return bool(found)

        wait_until(has_init, "systemd does not start")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the container, and return what it prints."""
        enter = ("nsenter", "-t", str(self._init), "-m", "-p", "-u", "-i", "-n")
        return _run(*enter, *command, check=check)

    def stop(self) -> None:
        """End systemd, with all units."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_WITHIN_S)

    def _nspawn(self) -> Sequence[str]:
        own = ("--register=no", "--keep-unit", "--link-journal=no", "--quiet")
        return ("systemd-nspawn", "-D", str(self.root), "-M", "tapewire-test", *own)


def wait_until(is_so: Callable[[], bool], otherwise: str) -> float:
    """Wait until something is so, and return how long it took; systemd notifies nobody outside."""
    began_s = time.monotonic()
    while not is_so():
        if time.monotonic() - began_s > _WITHIN_S:
            raise SystemExit(f"{otherwise} within {_WITHIN_S:g} s")
        time.sleep(_PAUSE_S)
    return time.monotonic() - began_s


def install(container: Container) -> None:
    """Install the wheel and the units as docs/guides/deploy.md says, from the locked packages."""
    share = container.root / "opt/share"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel")
    own = ("--no-build-isolation", "--no-deps", "--wheel-dir", str(share), str(ROOT))
    _run(*pip, *own)
    shutil.copy(ROOT / "requirements" / "run.lock", share)
    shutil.copy(Path(sys.executable).with_name("uv"), share)
    python, uv = PACKAGE / "bin/python", "/opt/share/uv"
    jars = Path.home() / ".m2"
    container.prepare(f"""
        {Path(sys.executable).resolve()} -m venv {PACKAGE}
        {uv} pip install --quiet --link-mode=copy --python {python} -r /opt/share/run.lock
        {uv} pip install --quiet --python {python} --no-deps /opt/share/tapewire-*.whl
        {PACKAGE}/bin/tapewire install --systemd --edges {len(EDGES)}
        mkdir -p /var/lib/tapewire && cp -r {jars} /var/lib/tapewire/
        systemd-sysusers
        chown -R tapewire:tapewire /var/lib/tapewire
        systemctl enable --quiet tapewire.target
    """)


class Scene:
    """What an operator sees of the units."""

    def __init__(self, container: Container) -> None:
        self._run = container.run

    def states(self) -> set[str]:
        """Return the states of all services of Tapewire; none while systemd starts."""
        command = ("systemctl", "list-units", "--all", "--output=json", "tapewire-*.service")
        found = self._run(*command, check=False)
        return {unit["active"] for unit in json.loads(found or "[]")}

    def are_ready(self) -> bool:
        """Return whether all edges serve streams."""
        urls = [f"http://127.0.0.1:{port}/health/ready" for port in EDGES]
        return all(self._run("curl", "-sf", url, check=False) for url in urls)

    def main_pid(self, unit: str) -> str:
        """Return the process of a unit; 0 while it has none."""
        return self._run("systemctl", "show", "-p", "MainPID", "--value", unit).strip()

    def silent_targets(self) -> Sequence[str]:
        """Return the targets of Prometheus that show no metrics."""
        rows = json.loads(self._run("cat", f"/{TARGETS}"))
        found = [target for row in rows for target in row["targets"]]
        asked = {
            target: self._run("curl", "-sf", f"http://{target}/metrics", check=False)
            for target in found
        }
        return [target for target, text in asked.items() if "tapewire_" not in text]

    def doctor(self) -> Sequence[str]:
        """Return what the doctor finds wrong, as a command with the units' settings."""
        tapewire = f"{PACKAGE}/bin/tapewire"
        shell = f"set -a; . /etc/tapewire/tapewire.env; exec {tapewire} doctor --json"
        checks = json.loads(self._run("bash", "-c", shell))
        return [check["found"] for check in checks if check["result"] == "wrong"]

    def stream_shows_a_report(self) -> bool:
        """Return whether an event of a program beside the units arrives in a stream."""
        url = f"http://127.0.0.1:{EDGES[1]}/api/v1/sse/training?from=earliest"
        message = uuid.uuid4().hex
        self._run(f"{PACKAGE}/bin/python", "-c", _REPORT, message, check=False)
        return message in self._run("curl", "-sN", "--max-time", "3", url, check=False)

    def survives(self, unit: str) -> float:
        """Kill the process of a unit; return after how many seconds everything is ready again."""
        killed = self.main_pid(unit)
        self._run("kill", "-9", killed)

        def is_back() -> bool:
            pid = self.main_pid(unit)
            return pid not in ("0", killed) and self.states() == {"active"} and self.are_ready()

        return wait_until(is_back, f"{unit} is not back")

    def stop(self) -> Sequence[str]:
        """Stop the target; return the services that failed, and the processes that are left."""
        self._run("systemctl", "stop", "tapewire.target", "tapewire-*")
        failed = self._run("systemctl", "--failed", "--no-legend", "--plain").splitlines()
        return failed + self._run("pgrep", "-u", "tapewire", "-a", check=False).splitlines()


def look(container: Container) -> None:
    """Start the units, kill some, stop all, and print what was seen.

    Raises:
        SystemExit: a unit does not do what it should.
    """
    scene = Scene(container)
    container.boot()
    started_s = wait_until(
        lambda: scene.states() == {"active"} and scene.are_ready(), "not all units are active"
    )
    print(
        f"all units are active, and the edges ready, {started_s:.1f} s after the boot", flush=True
    )
    wrong = [*scene.doctor(), *scene.silent_targets()]
    shows = scene.stream_shows_a_report()
    print(f"wrong or without metrics: {wrong or 'nothing'}; a stream shows a report: {shows}")
    for unit in KILLED:
        print(f"{unit} killed: all is ready again after {scene.survives(unit):.1f} s", flush=True)
    shown_s = wait_until(scene.stream_shows_a_report, "no stream shows a report")
    print(f"after that a stream shows a report within {shown_s:.1f} s")
    left = scene.stop()
    print(f"stopped: failed or left: {left or 'nothing'}")
    if wrong or left or not shows:
        raise SystemExit(1)


def main() -> None:
    """Run the scene in a mount namespace of its own, whose mounts end with it."""
    if os.geteuid() != 0:
        sys.exit("systemd-nspawn needs root")
    if shutil.which("systemd-nspawn") is None:
        sys.exit("systemd-nspawn is not installed; Debian's package is systemd-container")
    if _INSIDE not in sys.argv:
        own = ("unshare", "--mount", "--propagation", "private")
        inside = (*own, sys.executable, "-m", "tests.systemd", _INSIDE)
        sys.exit(subprocess.run(inside, cwd=ROOT, check=False).returncode)
    container = Container(Path(tempfile.mkdtemp(prefix="tapewire-systemd-")))
    container.make()
    try:
        install(container)
        look(container)
    finally:
        container.stop()


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} has failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
