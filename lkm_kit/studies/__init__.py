"""Tables 1 to 3 of the paper: the published numbers, the arms, running them, and what may be concluded."""

from lkm_kit.studies import published
from lkm_kit.studies.arms import Arm, Study, study, study_names

__all__ = ["Arm", "Study", "published", "study", "study_names"]
