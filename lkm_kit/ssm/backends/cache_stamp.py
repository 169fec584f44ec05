"""numba caches compiled kernels on disk; this makes the cache notice changes in the files they are built from."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any


def stamp_cache(*kernels: Any) -> None:
    """Tie numba's cache of ``kernels`` to the text of all files in this folder.

    numba looks only at the file that holds a compiled function. The vector instructions stand in files of their own,
    and after an edit or an update there, a cached kernel would go on running the old ones.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for kernel in kernels:
        # A private attribute: where a future numba has moved it, caching falls back to numba's own rule.
        with contextlib.suppress(AttributeError):
            kernel._cache._cache_file._source_stamp = digest.hexdigest()
