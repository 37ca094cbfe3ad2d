import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from build_tools.images import (
    BROKER,
    FILES,
    LOCKS,
    PARTS,
    ROOT,
    SERVICES,
    base_command,
    block_of,
    build_command,
    main,
    report,
)
from build_tools.rewrite_imports import FOLDERS
from infra import acls
from tests.support.broker_container import ADVERTISED
from tests.support.broker_properties import addresses, inter_broker_addresses, read_properties

CONTAINERFILE = (FILES / "Containerfile").read_text(encoding="utf-8")
STAGES = re.findall(r"^FROM (\S+) AS (\S+)$", CONTAINERFILE, re.MULTILINE)
EXTRAS = {
    "edge": "edge",
    "processor": "processors",
    "notifier": "notifier",
    "producers": "demo",
    "backtester": "backtester",
    "market": "market",
    "command": "cli",
}
IMPORTED_WITH = """\
import sys
from importlib.metadata import packages_distributions

allowed = set(sys.argv[1].split())
known = packages_distributions()


class Absent:
    def find_spec(self, name, path=None, target=None):
        of = {found.lower().replace("_", "-") for found in known.get(name, ())}
        if of and not of & allowed:
            raise ModuleNotFoundError(f"no package of the image has {name}", name=name)


sys.meta_path.insert(0, Absent())
"""
SCIENTIFIC = {"numpy", "scipy", "scikit-learn", "faust-streaming"}


def lines_of(name: str) -> str:
    """The lines of a stage, and of those that it is made from."""
    text = CONTAINERFILE.split(f" AS {name}\n", 1)[1].split("\nFROM ", 1)[0]
    (parent,) = (parent for parent, stage in STAGES if stage == name)
    return text if parent == "${BASE}" else lines_of(parent) + text


def packages(lock: str) -> set[str]:
    text = (LOCKS / f"{lock}.lock").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))


def test_every_part_with_access_to_kafka_that_runs_by_itself_has_an_image() -> None:
    programs = {name for name, part in acls.PARTS.items() if part.purpose.startswith("`python -m")}
    assert programs | {"provision"} == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_an_image_runs_a_module_that_exists_without_privileges(part: str) -> None:
    text = lines_of(part)
    module = re.findall(r'^ENTRYPOINT \["python", "-m", "tapewire\.?([\w.]*)"', text, re.MULTILINE)[
        -1
    ]
    folder = ROOT / (module.replace(".", "/") or "tapewire")
    assert (folder / "__main__.py").exists()
    assert "USER 65532:65532" in text
    assert "STOPSIGNAL SIGTERM" in text
    assert f'title="tapewire-{part}"' in text
    assert "RUN" not in text
    if part != "provision":
        assert "HEALTHCHECK" in text


@pytest.mark.parametrize("part", PARTS)
def test_an_image_has_the_packages_of_its_lock_and_their_list(part: str) -> None:
    text = lines_of(part)
    assert f"COPY --from={PARTS[part]}-packages /opt/tapewire" in text
    assert ".cdx.jso[n]" in text


def test_only_parts_that_compute_have_the_scientific_packages() -> None:
    for lock in ("edge", "market", "command"):
        assert packages(lock) & SCIENTIFIC == set()
    assert packages("backtester") & SCIENTIFIC == {"numpy"}
    assert packages("processor") >= {"numpy", "scipy", "faust-streaming"}


def imported_with(allowed: set[str], module: str = "cli.app") -> subprocess.CompletedProcess[str]:
    """Import a module where no other packages are installed."""
    code = f"{IMPORTED_WITH}import {module}\n"
    command = [sys.executable, "-c", code, " ".join(allowed | {"tapewire"})]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_begins_with_the_packages_of_its_image() -> None:
    """`tapewire topics create` in an image must not need what only `tapewire up` does."""
    done = imported_with(packages("command"))
    assert done.returncode == 0, done.stderr
    done = imported_with(packages("command") - {"httpx"})
    assert "no package of the image has httpx" in done.stderr


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_part_in_an_image_can_ask_a_schema_registry(lock: str) -> None:
    client = "confluent_kafka.schema_registry.avro"
    done = imported_with(packages(lock), client)
    assert done.returncode == 0, done.stderr
    assert imported_with(packages(lock) - {"authlib"}, client).returncode != 0


def test_the_locks_of_images_name_the_versions_of_the_lock_of_all_parts() -> None:
    def pins(path: Path) -> set[str]:
        return set(
            re.findall(r"^[\w.-]+==[^ ;\\]+", path.read_text(encoding="utf-8"), re.MULTILINE)
        )

    everything = pins(ROOT / "requirements" / "run.lock") | pins(
        ROOT / "requirements" / "dev.lock"  # has the registry's client too
    )
    for lock in set(PARTS.values()):
        assert pins(LOCKS / f"{lock}.lock") <= everything, lock


def test_a_lock_of_an_image_has_what_its_extra_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def needed(lines: list[str]) -> set[str]:
        names: set[str] = set()
        for line in lines:
            own = re.match(r"tapewire\[(.*)\]", line)
            for extra in own[1].split(",") if own else ():
                names |= needed(extras[extra])
            if not own:
                names.add(re.split(r"[^\w.-]", line)[0])
        return names

    both = extras["tracing"] + extras["registry"]
    for lock, extra in EXTRAS.items():
        wanted = needed(project["dependencies"] + extras[extra] + both)
        missing = wanted - packages(lock)
        assert not missing, (
            f"requirements/images/{lock}.lock lacks {missing}; `make lock` renews it"
        )


def test_the_context_of_a_build_has_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    for path in re.findall(r"^COPY ([a-zA-Z_]\S*)", CONTAINERFILE, re.MULTILINE):
        assert f"!{path.split('/', maxsplit=1)[0]}" in ignored, path
    assert not {"!.git", "!tests", "!.tapewire"} & set(ignored)


def test_podman_makes_images_that_can_have_health_checks() -> None:
    command = build_command("podman", "edge", "base:1", "tapewire/edge:1")
    assert command[command.index("--format") + 1] == "docker"
    assert "--format" not in build_command("docker", "edge", "base:1", "tapewire/edge:1")


@pytest.mark.parametrize("target", [BROKER, *SERVICES])
def test_other_images_are_targets_of_their_files(target: str) -> None:
    command = build_command("docker", target, "base:1", "name")
    file = Path(command[command.index("--file") + 1])
    assert f" AS {target}\n" in file.read_text(encoding="utf-8")


def test_a_broker_finds_itself_wherever_its_clients_find_it() -> None:
    """It sends the ends of transactions to itself, by an address that is not one of clients."""
    properties = read_properties((FILES / "kafka.properties").read_text(encoding="utf-8"))
    assert inter_broker_addresses(properties) == ("127.0.0.1:9094", "localhost:9094")
    elsewhere = properties | {"advertised.listeners": ADVERTISED.format(port=20_000)}
    assert inter_broker_addresses(elsewhere) == inter_broker_addresses(properties)
    advertised = addresses(elsewhere["advertised.listeners"])
    assert advertised.pop("PLAINTEXT") == "localhost:20000"
    assert advertised.keys() == {properties["inter.broker.listener.name"]}
    protocols = properties["listener.security.protocol.map"].split(",")
    assert {name.split(":")[0] for name in protocols} == set(addresses(properties["listeners"]))


def test_the_base_is_made_of_few_packages_without_a_compiler() -> None:
    command = base_command(Path("base.tar"))
    assert "--variant=minbase" in command
    assert not any("gcc" in part or "build-essential" in part for part in command)


def test_the_lock_of_one_package_has_all_its_hashes(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(
        "a==1 \\\n    --hash=sha256:01 \\\n    --hash=sha256:02\n    # via tapewire\n"
        "b==2 \\\n    --hash=sha256:03\n"
    )
    assert block_of("a", lock) == "a==1 \\\n    --hash=sha256:01 \\\n    --hash=sha256:02\n"


def test_an_image_that_is_too_large_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"edge": 349_000_000, "demo": 900_000_000})
    assert not report({"edge": 351_000_000})
    assert "TOO LARGE" in capsys.readouterr().out


def test_a_target_that_does_not_exist_is_refused_with_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["painter"])
    assert "painter: it must be of edge" in capsys.readouterr().err


def test_images_have_every_folder_of_the_package() -> None:
    """A command that does not find one of them says that its package is missing."""
    copied = re.findall(r"^COPY (\w+) /source/\1/$", CONTAINERFILE, re.MULTILINE)
    assert set(copied) == {*FOLDERS, "tapewire", "build_tools"}
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{folder}" for folder in copied} <= set(context)
