"""The published data sets: where they are, under which terms, how large; and how to get at one of them.

The one table of default addresses. Checksums are those that third parties give for the record; no publisher states one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lkm_kit.data.download import download
from lkm_kit.data.sample import data_folder
from lkm_kit.errors import KitError


@dataclasses.dataclass(frozen=True)
class Release:
    """One published data set.

    Args:
        name: what people call it.
        version: the record or release this kit was written for.
        url: of the archive, or None where it is not to be had by a plain request.
        page: where a person finds it.
        sha256: of the archive, or None where nobody gives one.
        licence: what is known of the terms.
        citation: whom to cite.
    """

    name: str
    version: str
    url: str | None
    page: str
    sha256: str | None
    licence: str
    citation: str


RELEASES: dict[str, Release] = {
    "amos22": Release(
        name="AMOS22",
        version="Zenodo record 7155725, amos22.zip",
        url="https://zenodo.org/records/7155725/files/amos22.zip?download=1",
        page="https://zenodo.org/records/7155725",
        sha256="d2fbf2c31abba9824d183f05741ce187b17905b8cca64d1078eabf1ba96775c2",
        licence="sources disagree (users of the record say CC BY 4.0, the paper's review page a non-commercial one): "
        "treat as non-commercial",
        citation="Ji et al., AMOS, NeurIPS 2022 Datasets and Benchmarks, arXiv 2206.08023",
    ),
    "flare22": Release(
        name="FLARE22",
        version="Zenodo record 7860267, FLARE22Train.zip",
        url="https://zenodo.org/records/7860267/files/FLARE22Train.zip?download=1",
        page="https://zenodo.org/records/7860267",
        sha256="d57e201dc9002bd4a6fc1f5e0d4525285f46bcc5be1a3c8f12543151e6675154",
        licence="sources disagree (CC BY 4.0 or CC BY-NC-SA 4.0): treat as non-commercial",
        citation="Ma et al., FLARE22, Lancet Digital Health 2024, arXiv 2308.05862",
    ),
    "u-mamba": Release(
        name="U-Mamba's folders",
        version="shared folders of the U-Mamba and the LKM-UNet authors, without version or checksums",
        url=None,
        page="https://github.com/bowang-lab/U-Mamba (README); github.com/wjh892521292/LKM-UNet (data/README.md)",
        sha256=None,
        licence="not stated; made of AMOS22 and FLARE22, so at least their terms hold: treat as non-commercial",
        citation="Ma et al., U-Mamba, arXiv 2401.04722",
    ),
}
"""Name -> release. AMOS22 is also cited as Zenodo record 7262581; give its URL with ``--url`` to use that one."""


def obtain(
    release: Release,
    source: str | Path | None = None,
    *,
    url: str | None = None,
    sha256: str | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Path of an archive or unpacked folder: the user's own, or downloaded first.

    Args:
        release: a value of :data:`RELEASES`.
        source: the archive or the folder, if the user has it.
        url: where to download the archive; default the release's own address.
        sha256: expected checksum of the download; ``"none"``: do not check; default: the release's for its own address,
            nothing for another one.
        folder: where downloads are kept; default ``downloads`` in the data folder (``LKM_DATA``).

    Raises:
        KitError: both source and url, no address known, or the download failed.
    """
    if source is not None and url is not None:
        raise KitError("both an archive and a URL are given", remedy="give one of --archive and --url")
    if source is not None:
        return Path(source).expanduser()
    address = url or release.url
    if address is None:
        raise KitError(
            f"{release.name} cannot be downloaded by a script",
            remedy=f"fetch it with a browser from {release.page} and use --archive",
        )
    expected = sha256 or (release.sha256 if url is None else None)
    name = Path(unquote(urlsplit(address).path)).name or f"{release.name}.zip"
    folder = data_folder() / "downloads" if folder is None else Path(folder)
    return download(address, folder / name, sha256=None if expected == "none" else expected)
