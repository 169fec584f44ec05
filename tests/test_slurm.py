"""The Slurm launcher on a real Slurm of one node: an array of runs, and a run that is queued again and resumes."""

import json
import re
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import slurm_cluster
from toy_study import plan, squares, stopping

from lkm_kit.errors import KitError
from lkm_kit.studies.runner import run_study, status

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=f"no Slurm to start: {slurm_cluster.missing()}"),
]
SMALL = {"cpus_per_task": 1, "timeout_min": 5, "slurm_array_parallelism": 2}


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    pytest.importorskip("submitit")
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, environment[name])
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the jobs unpickle toy_study
        yield (
            lambda *command: (
                subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True).stdout
            )
        )


def scores(the_plan):
    return {(j.arm, j.seed): (j.folder(the_plan.root) / "per_case.csv").read_bytes() for j in the_plan.jobs()}


def test_an_array_of_runs_gives_the_numbers_of_the_serial_launcher(slurm, tmp_path):
    here, there = plan(tmp_path / "here"), plan(tmp_path / "there")
    how = {"datasets": squares, "device": "cpu", "log": lambda line: None}
    run_study(there, "slurm", slurm=SMALL, **how)
    assert status(there)["state"].tolist() == ["done", "done"]
    _until(lambda: slurm("scontrol", "show", "jobs").count("JobState=COMPLETED") == 2)
    assert len(set(re.findall(r"ArrayJobId=(\d+)", slurm("scontrol", "show", "jobs")))) == 1
    run_study(here, **how)
    assert scores(there) == scores(here)


def test_a_job_near_its_time_limit_is_queued_again_and_resumes(slurm, tmp_path):
    here, there = plan(tmp_path / "here", arms=["lkm"]), plan(tmp_path / "there", arms=["lkm"])
    flags = tmp_path / "flags"
    flags.mkdir()
    how = {"datasets": partial(stopping, str(flags)), "device": "cpu", "log": lambda line: None, "slurm": SMALL}
    launcher = threading.Thread(target=run_study, args=(there, "slurm"), kwargs=how, daemon=True)
    launcher.start()
    asked = flags / "asked"
    _until(lambda: asked.exists() and "9" in asked.read_text().split())
    assert status(there)["step"].tolist() == [2]  # there is a checkpoint
    number = slurm("squeue", "--noheader", "--format=%A").split()[0]
    slurm("scancel", "--signal=USR2", number)  # what Slurm itself sends ahead of the time limit
    _until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", number))
    (flags / "go on").touch()
    launcher.join(120)
    assert not launcher.is_alive()
    _until(lambda: "JobState=COMPLETED" in slurm("scontrol", "show", "job", number))
    run_study(here, datasets=squares, device="cpu", log=lambda line: None)
    assert scores(there) == scores(here)
    items = asked.read_text().split()
    assert len(items) > 16 and all(items.count(item) == 1 for item in items[:8])  # it went on from its checkpoint


def test_two_processes_train_one_run_inside_a_job(slurm, tmp_path):
    """Slurm sees one task; its two processes are the kit's own, on the two cores of the node."""
    the_plan = plan(tmp_path, arms=["control"])
    asked = {**SMALL, "cpus_per_task": 2}
    run_study(the_plan, "slurm", datasets=squares, device="cpu", processes=2, slurm=asked, log=lambda line: None)
    done = json.loads((the_plan.jobs()[0].folder(the_plan.root) / "done.json").read_text())
    assert done["processes"] == 2


SACCT = r"""#!/bin/sh
# accounting needs a database; this one reads the controller's memory, in sacct's words
echo "JobID|State|NodeList"
scontrol --oneliner show jobs | sed -nE \
    's/.*ArrayJobId=([0-9]+) ArrayTaskId=([0-9]+).* JobState=([A-Z]+) .*/\1_\2|\3|here/p'
"""


def test_a_cancelled_job_is_named_and_the_other_counts(slurm, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sacct").write_text(SACCT)
    (tmp_path / "bin" / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    the_plan, flags, lines = plan(tmp_path / "runs"), tmp_path / "flags", []
    flags.mkdir()

    def cancel():
        _until(lambda: (flags / "asked").exists())
        first = next(line for line in lines if "Slurm jobs are queued" in line).split("(")[1].split(",")[0]
        slurm("scancel", first)
        _until(lambda: slurm("squeue", "--noheader", "--states=all", "--format=%F_%K %T").count(f"{first} CANCELLED"))
        (flags / "go on").touch()

    threading.Thread(target=cancel, daemon=True).start()
    asked = {**SMALL, "slurm_array_parallelism": 1}  # the first stands still until it is cancelled
    how = {"datasets": partial(stopping, str(flags)), "device": "cpu", "log": lines.append, "slurm": asked}
    with pytest.raises(KitError, match="1 of 2 runs failed") as error:
        run_study(the_plan, "slurm", **how)
    assert "control seed 0: Slurm job" in str(error.value)
    assert "CANCELLED" in str(error.value)
    assert status(the_plan)["state"].tolist()[1] == "done"


def _until(condition, patience=90.0):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.3)
