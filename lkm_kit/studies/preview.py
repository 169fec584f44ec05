"""What a study would run, before anything is trained: ``lkm study NAME --dry-run``."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from lkm_kit.studies.conclusions import data_lines
from lkm_kit.studies.costs import cost, training_memory
from lkm_kit.studies.own_data import splits_of
from lkm_kit.studies.plan import Plan
from lkm_kit.studies.render import tokens_text
from lkm_kit.studies.runner import status


def preview(plan: Plan) -> str:
    """Arms with their sizes, windows and costs, the protocol, the split of the data, and how many runs there are.

    Args:
        plan: of :func:`lkm_kit.studies.runner.make_plan`.

    Raises:
        KitError: a network that cannot take the images, or a split that cannot be scored.

    >>> from lkm_kit.studies.runner import make_plan
    >>> print(preview(make_plan("table3", "smoke", arms=["pim"], root="nowhere")).splitlines()[0])
    table3: Which of PiM, PaM and BiM helps, and against what?
    """
    config, jobs, states = plan.protocol(), plan.jobs(), status(plan)["state"]
    images = (config["image_size"], len(config["organs"]) + 1)
    rows = {}
    for job in jobs:
        if job.arm in rows:
            continue
        arm = plan.study.arm(job.arm)
        costs = cost(arm, *images, config["input_channels"])
        memory = training_memory(arm, *images, job.config.batch_size, config["input_channels"])
        rows[job.arm] = {
            "network": arm.network,
            "windows": arm.overrides.get("windows", "–"),
            "steps": job.config.iterations,
            "parameters": f"{costs['parameters'] / 1e6:.2f} M",
            "GFLOPs": f"{costs['gflops']:.2f}",
            "memory, MB": f"{memory / 1e6:.0f}",
            "tokens per sequence": tokens_text(costs["tokens"]),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm").reset_index()
    folds = f" x {len(plan.folds)} folds" if plan.folds else ""
    scored = [f"cases to be scored, whole deformed copies in 3D: {plan.size.test_cases}"]
    scored = scored if plan.on_cohort else data_lines(splits_of(plan))
    there = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    held = f"; {len(plan.elsewhere)} more are in written reports" if plan.elsewhere else ""
    items = "slices" if len(config["image_size"]) == 2 else "patches"
    return "\n".join(
        [
            f"{plan.study.name}: {plan.study.question}",
            f"{len(jobs)} runs: {len(rows)} arms x {len(plan.seeds)} seeds{folds} ({there}), in {plan.folder}{held}",
            f"{config['batch_size']} {items} of {'x'.join(map(str, config['image_size']))} a step",
            "the column default is of a training without a profile (TrainConfig), not the profile's value:",
            plan.protocol_table(),
            *scored,
            table.to_string(index=False, max_colwidth=None),
        ]
    )
