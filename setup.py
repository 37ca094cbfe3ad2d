"""How a wheel is built: the top folders of the checkout become one package, `tapewire`.

Names such as `schemas`, `infra` and `producers` are common; a wheel that put them at the top of
an environment could hide other modules there. So the wheel holds `tapewire/schemas` and so on, and
the build rewrites the imports in the copies: `from schemas.codec import encode` becomes
`from tapewire.schemas.codec import encode`. An editable install, as by `make`, changes nothing.

With `TAPEWIRE_COMPILE=1` the wheel also has the modules of `build_tools.compiled` as compiled ones,
for the platform and the Python that it is built on. That needs mypy and a C compiler.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

sys.path.insert(0, str(Path(__file__).parent))
from build_tools.compiled import GROUP, MODULES, ROOT  # the build finds it by that path
from build_tools.rewrite_imports import FOLDERS, rewrite_imports

_COMPILES = os.environ.get("TAPEWIRE_COMPILE") == "1"
if _COMPILES:  # a plain wheel is built without mypy
    from mypyc.build import mypycify


class BuildPy(build_py):
    """Copies the folders into `tapewire`, and rewrites their imports."""

    def finalize_options(self) -> None:
        """Place the folders below `tapewire`, unless the install is editable."""
        super().finalize_options()
        if self.editable_mode:
            return
        patterns = [pattern for name in FOLDERS for pattern in (name, f"{name}.*")]
        found = find_packages(include=patterns)
        self.packages = ["tapewire", *(f"tapewire.{name}" for name in found)]
        self.package_dir = {f"tapewire.{name}": name for name in FOLDERS}
        self.package_data = {
            f"tapewire.{name}": patterns for name, patterns in self.package_data.items()
        }

    def run(self) -> None:
        """Copy what the checkout has now: a wheel takes all that it finds in the build folder."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "tapewire", ignore_errors=True)
        super().run()

    def build_module(self, module: str, module_file: str, package: str) -> tuple[str, bool]:
        """Copy a module, and rewrite its imports in the copy."""
        copy, copied = super().build_module(module, module_file, package)
        if not self.editable_mode:
            path = Path(copy)
            source = path.read_text(encoding="utf-8")
            path.write_text(rewrite_imports(source, module_file), encoding="utf-8")
        return copy, copied


class BuildExt(build_ext):
    """Compiles modules; those of a wheel from their copies, in which imports are rewritten."""

    def run(self) -> None:
        """Compile the modules, and put the compiled ones beside their sources."""
        c_folder = Path(self.build_temp).resolve()
        if not self.inplace:
            os.chdir(self.build_lib)  # the path of a module's file becomes its name
        found = mypycify(
            [
                f"--config-file={ROOT / 'pyproject.toml'}",
                f"--cache-dir={c_folder / 'mypy'}",
                *(name if self.inplace else f"tapewire/{name}" for name in MODULES),
            ],
            opt_level="2",
            debug_level="0",
            multi_file=True,
            group_name=GROUP,
            target_dir=str(c_folder),
        )
        build = build_ext(Distribution({"name": "tapewire", "ext_modules": found, "packages": []}))
        build.build_lib, build.build_temp = str(c_folder / "lib"), str(c_folder)
        build.inplace, build.parallel = True, os.cpu_count()
        build.ensure_finalized()
        build.run()
        os.chdir(ROOT)


class CompiledDistribution(Distribution):
    """A distribution that is compiled: its extensions are known only when they are built."""

    def has_ext_modules(self) -> bool:
        """Return True, so that the wheel names its platform."""
        return True


class EggInfo(egg_info):
    """Writes the metadata, which name the one package that a wheel has at its top."""

    def run(self) -> None:
        """Write the metadata."""
        super().run()
        self.write_file("top-level names", f"{self.egg_info}/top_level.txt", "tapewire\n")


if _COMPILES:
    setup(
        cmdclass={"build_py": BuildPy, "build_ext": BuildExt, "egg_info": EggInfo},
        distclass=CompiledDistribution,
    )
else:
    setup(cmdclass={"build_py": BuildPy, "egg_info": EggInfo})
