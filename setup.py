"""What pyproject.toml cannot say: the reference results of the studies go into the wheel, where chapters read them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithResults(build_py):
    """Modules and package data, and beside them ``figures/studies``, which a checkout shows to its readers."""

    def run(self):
        super().run()
        if not self.editable_mode:
            results = Path(self.build_lib, "lkm_kit", "studies", "results")
            shutil.copytree(Path(__file__).parent / "figures" / "studies", results, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithResults})
