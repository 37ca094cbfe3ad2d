"""How a wheel is built: the top folders of the checkout become one package, `tapewire`.

Names such as `schemas`, `infra` and `producers` are common; a wheel that put them at the top of
an environment could hide other modules there. So the wheel holds `tapewire/schemas` and so on, and
the build rewrites the imports in the copies: `from schemas.codec import encode` becomes
`from tapewire.schemas.codec import encode`. An editable install, as by `make`, changes nothing.
"""

import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

sys.path.insert(0, str(Path(__file__).parent))
from build_tools.rewrite_imports import FOLDERS, rewrite_imports  # the build finds it by that path


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


class EggInfo(egg_info):
    """Writes the metadata, which name the one package that a wheel has at its top."""

    def run(self) -> None:
        """Write the metadata."""
        super().run()
        self.write_file("top-level names", f"{self.egg_info}/top_level.txt", "tapewire\n")


setup(cmdclass={"build_py": BuildPy, "egg_info": EggInfo})
