"""Look an nnU-Net data set over before days of training go into it; exit status 0: no errors, 1: errors, 2: no answer.

What it needs: a folder nnUNet_raw/DatasetXXX_Name with one channel in .nii.gz files, of this kit's scripts or any other
origin; memory for one scan. Disk: about 1 MB. Time: every file is read once.

Looks at: dataset.json; images and labels without their partner; files that cannot be read; image and label that lie
apart; spacing, orientation, intensities that do not fit the modality; label values outside the table; empty labels and
organs that are nowhere; organs on the wrong side; one scan in two cases or in two splits (by content, not by name);
files that differ from the manifest.

Writes to: REPORT (default: check/ in the data set's folder): cases.csv, findings.csv, contact_sheet.png
(nnU-Net ignores that folder). The data themselves are only read; what holds for them holds for the picture too: it
shows patients' scans, keep it as private as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lkm_kit.data import check_dataset
from lkm_kit.data.scripts import ending, script_parser
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path


def main(arguments: list[str] | None = None) -> int:
    """Check, write the report; returns the exit status."""
    parser = script_parser(__doc__)
    parser.add_argument("dataset", type=Path, help="the folder nnUNet_raw/DatasetXXX_Name")
    parser.add_argument("--report", type=Path, help="where to write (default: check/ in that folder)")
    parser.add_argument(
        "--accept", nargs="+", default=[], metavar="CASE", help="cases whose errors are known and right"
    )
    parser.add_argument("--strict", action="store_true", help="exit status 1 for warnings too")
    options = parser.parse_args(arguments)
    return ending(lambda: _work(options))


def _work(options: argparse.Namespace) -> int:
    try:
        report = check_dataset(options.dataset, accept=options.accept)
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report)
    folder = options.report or options.dataset / "check"
    paths = report.write(folder)
    if report.previews:
        from lkm_kit.plots.contact_sheet import plot_contact_sheet

        marked = {f.case: f.level for f in reversed(report.findings) if f.level in ("error", "warning")}
        paths.append(folder / "contact_sheet.png")
        with atomic_path(paths[-1]) as temporary:
            plot_contact_sheet(report.previews, report.names, marked=marked).savefig(temporary, format="png", dpi=110)
    print("written: " + ", ".join(str(path) for path in paths))
    warned = any(finding.level == "warning" for finding in report.findings)
    return 0 if report.ok and not (options.strict and warned) else 1


if __name__ == "__main__":
    sys.exit(main())
