"""Build hook: compile the deciding half of llamapipe with mypyc into the wheel.

What `control` and `slo` decide, and the simulator's loop, is plain typed Python, which mypyc turns into C that does the
same two to three times as fast. A wheel built where there is no C compiler holds Python alone and works the same; so
does an editable installation. LLAMAPIPE_COMPILE=1 makes a failed compilation an error, LLAMAPIPE_COMPILE=0 leaves it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Of what is imported from elsewhere little is installed when a wheel is built, and errors in it are of no interest.
MYPY = "[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n"
SETUP = """
from mypyc.build import mypycify
from setuptools import setup

setup(name="llamapipe", packages=[], ext_modules=mypycify({modules!r}, opt_level="2", debug_level="0"))
"""


class CompileHook(BuildHookInterface[Any]):
    """Add compiled modules to a wheel, from the patterns under ``modules`` and without those under ``interpreted``."""

    def dependencies(self) -> list[str]:
        """What compiling needs, asked for where it is not left out."""
        return [] if self._asked == "0" else list(self.config["needs"])

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary folder and name what came of it."""
        if self.target_name != "wheel" or version == "editable" or self._asked == "0":
            return
        self._work = Path(tempfile.mkdtemp())
        try:
            built = compiled(Path(self.root), self._modules(), self._work)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(self._work)
            del self._work
            told = getattr(error, "stdout", None) or str(error)
            if self._asked == "1":
                raise RuntimeError(f"llamapipe cannot be compiled here:\n{told}") from error
            self.app.display_warning(f"built without compiled modules, which works the same but slower:\n{told}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): str(path.relative_to(self._work)) for path in built})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        if hasattr(self, "_work"):
            shutil.rmtree(self._work)

    @property
    def _asked(self) -> str:
        return os.environ.get("LLAMAPIPE_COMPILE", "")

    def _modules(self) -> list[str]:
        root = Path(self.root)
        named = {path for pattern in self.config["modules"] for path in root.glob(pattern)}
        left = {path for pattern in self.config["interpreted"] for path in root.glob(pattern)}
        return sorted(str(path.relative_to(root)) for path in named - left)


def compiled(root: Path, modules: list[str], work: Path) -> list[Path]:
    """Extension modules under ``work``, laid out as in the wheel. Raises OSError, CalledProcessError."""
    shutil.copytree(root / "llamapipe", work / "llamapipe", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (work / "mypy.ini").write_text(MYPY)
    (work / "setup.py").write_text(SETUP.format(modules=modules))
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=work,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # The build folder holds the same files once more.
    return [path for path in work.rglob("*.so") if "build" not in path.relative_to(work).parts]
