"""The cell that every notebook gets below its title: it installs the kit where it is missing, as on Colab or Kaggle.

Sources know nothing of it; :func:`add_setup` puts it there when a notebook is built. Where the kit can be imported it
does nothing.
"""

from __future__ import annotations

import nbformat
from nbformat import NotebookNode

OWNER = "OWNER"
"""The GitHub account that publishes the kit; this very word until somebody does. README and the pages' badges name the
same one."""
SETUP = f"""# Installs the kit where it is missing, as on Colab. Elsewhere this cell does nothing.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("lkm_kit") is None:
    checkouts = (p for p in Path.cwd().parents if (p / "lkm_kit").is_dir())
    home = next(checkouts, None)
    if home is None:
        address = "https://github.com/{OWNER}/lkm-kit"
        assert "/OWNER/" not in address, "put an account in place of OWNER"
        subprocess.run(["git", "clone", "--depth=1", address, "lkm-kit"], check=True)
        home = Path("lkm-kit").resolve()
        os.chdir(home / "notebooks")
    # Colab's own Jupyter has an ipywidgets that must stay as it is
    extra = "" if importlib.util.find_spec("ipywidgets") else "[notebooks]"
    pip = [sys.executable, "-m", "pip", "install", "-e", f"{{home}}{{extra}}"]
    subprocess.run(pip, check=True)
    sys.path.insert(0, str(home))  # this kernel started before the kit was there"""
PLACE = 1
"""Its index among a notebook's cells."""


def add_setup(notebook: NotebookNode) -> NotebookNode:
    """Put the cell below the title, its code folded; in place, and returned.

    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> [cell.id for cell in add_setup(new_notebook(cells=[new_markdown_cell("# A", id="a")])).cells]
    ['a', 'setup']
    """
    metadata = {"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]}  # for JupyterLab, and for the site
    cell = nbformat.from_dict({"cell_type": "code", "id": "setup", "source": SETUP, "metadata": metadata})
    cell.update(execution_count=None, outputs=[])
    notebook.cells.insert(PLACE, cell)
    return notebook
