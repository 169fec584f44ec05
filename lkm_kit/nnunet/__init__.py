"""The studies under the real nnU-Net: plans with one configuration per arm, the commands, the scores.

nnU-Net builds any network that its plans name, so nothing of it is replaced. Its planner, its preprocessing, its stock
trainer (SGD with Nesterov momentum 0.99, learning rate 0.01 with poly decay, weight decay 3e-5, 1000 epochs of 250
iterations) and its sliding window are used as they are. Only training and prediction need it installed
(``pip install -c constraints.txt -e '.[nnunet]'`` in a checkout).
"""

from lkm_kit.nnunet.pipeline import Step, run_steps, steps
from lkm_kit.nnunet.plans import DOUBTS, make_plans, nnunet_study, write_plans
from lkm_kit.nnunet.scores import collect
from lkm_kit.nnunet.submit import submission, submit

__all__ = [
    "DOUBTS",
    "Step",
    "collect",
    "make_plans",
    "nnunet_study",
    "run_steps",
    "steps",
    "submission",
    "submit",
    "write_plans",
]
