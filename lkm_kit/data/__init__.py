"""Cases, the real sample scans, the cohort made of them, and what happens before a network sees them."""

from lkm_kit.data.case import Case, read_case, read_image, write_segmentation
from lkm_kit.data.cohort import CohortPatches, CohortSlices
from lkm_kit.data.dicom import read_dicom_series
from lkm_kit.data.labels import ORGANS, LabelTable, organ, organs_present
from lkm_kit.data.phantom import make_phantom
from lkm_kit.data.preprocess import normalize, resample_case
from lkm_kit.data.sample import data_folder, fetch_sample, load_sample, sample_names, sample_source

__all__ = [
    "ORGANS",
    "Case",
    "CohortPatches",
    "CohortSlices",
    "LabelTable",
    "data_folder",
    "fetch_sample",
    "load_sample",
    "make_phantom",
    "normalize",
    "organ",
    "organs_present",
    "read_case",
    "read_dicom_series",
    "read_image",
    "resample_case",
    "sample_names",
    "sample_source",
    "write_segmentation",
]
