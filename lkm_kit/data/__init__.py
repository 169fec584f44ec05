"""Cases, the real sample scans, the cohort made of them, and what happens before a network sees them."""

from lkm_kit.data.amos import prepare_amos_mr
from lkm_kit.data.archives import open_source
from lkm_kit.data.case import Case, read_case, write_segmentation
from lkm_kit.data.cohort import CohortPatches, CohortSlices, CohortVolumes
from lkm_kit.data.cohort_files import write_cohort
from lkm_kit.data.dataset import DataSet, find_dataset
from lkm_kit.data.dataset_check import check_dataset
from lkm_kit.data.dicom import read_dicom_series
from lkm_kit.data.flare import prepare_flare_ct
from lkm_kit.data.labels import Label, LabelTable, organs_present
from lkm_kit.data.nifti import read_image
from lkm_kit.data.nnunet_raw import raw_folder
from lkm_kit.data.organs import ORGANS, organ
from lkm_kit.data.phantom import make_phantom
from lkm_kit.data.preprocess import normalize, resample_case
from lkm_kit.data.releases import RELEASES, Release, obtain
from lkm_kit.data.sample import data_folder, fetch_sample, load_sample, sample_names, sample_source, training_case
from lkm_kit.data.source import Source
from lkm_kit.data.umamba_folders import prepare_umamba

__all__ = [
    "ORGANS",
    "RELEASES",
    "Case",
    "CohortPatches",
    "CohortSlices",
    "CohortVolumes",
    "DataSet",
    "Label",
    "LabelTable",
    "Release",
    "Source",
    "check_dataset",
    "data_folder",
    "fetch_sample",
    "find_dataset",
    "load_sample",
    "make_phantom",
    "normalize",
    "obtain",
    "open_source",
    "organ",
    "organs_present",
    "prepare_amos_mr",
    "prepare_flare_ct",
    "prepare_umamba",
    "raw_folder",
    "read_case",
    "read_dicom_series",
    "read_image",
    "resample_case",
    "sample_names",
    "sample_source",
    "training_case",
    "write_cohort",
    "write_segmentation",
]
