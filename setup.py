"""What pyproject.toml cannot say: what chapters read goes into the wheel: results of studies, claims."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithResults(build_py):
    """Modules and package data, and beside them what a checkout shows to its readers."""

    def run(self):
        super().run()
        if not self.editable_mode:
            root, results = Path(__file__).parent, Path(self.build_lib, "lkm_kit", "studies", "results")
            shutil.copytree(root / "figures" / "studies", results, dirs_exist_ok=True)
            shutil.copy(root / "docs" / "claims.md", results)


setup(cmdclass={"build_py": BuildWithResults})
