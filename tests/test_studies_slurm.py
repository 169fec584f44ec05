"""What the Slurm launcher asks for, refuses and reports; on a real Slurm: test_slurm.py."""

import pickle
import types
from functools import partial

import pytest
from toy_study import plan, squares
from typer.testing import CliRunner

from lkm_kit.commands.study import app
from lkm_kit.errors import KitError
from lkm_kit.studies.runner import run_study, status
from lkm_kit.studies.slurm import checked, job_parameters, merged

submitit = pytest.importorskip("submitit")


def run(the_plan, **how):
    lines = []
    table = run_study(the_plan, "slurm", **{"datasets": squares, "device": "cpu", "log": lines.append, **how})
    return table, lines


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Slurm's commands, which do nothing; returns their folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "squeue", "sacct"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


@pytest.fixture
def array(programs, monkeypatch):
    """submitit up to the array, which runs here at once, pickled as it would be for a node; returns what was asked."""
    asked = {}

    def map_array(executor, function, jobs):
        asked.update(executor._executor.parameters, second_chances=executor._executor.max_num_timeout)
        function, jobs = pickle.loads(pickle.dumps((function, jobs)))
        asked["again"] = function.checkpoint(jobs[0])
        paths = types.SimpleNamespace(stderr="the.log")
        return [types.SimpleNamespace(job_id=f"7_{k}", paths=paths, result=partial(function, j)) for k, j in
                enumerate(jobs)]  # fmt: skip

    monkeypatch.setattr(submitit.AutoExecutor, "map_array", map_array)
    return asked


def test_a_machine_without_slurm_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KitError, match="there is no Slurm"):
        run(plan(tmp_path))


def test_one_array_of_the_same_jobs_which_may_be_queued_again(array, tmp_path):
    table, lines = run(plan(tmp_path, 1), slurm={"slurm_partition": "gpu", "timeout_min": 5, "mem_gb": 3})
    assert table["state"].tolist() == ["done", "done"]
    assert (array["partition"], array["time"], array["mem"], array["cpus_per_task"]) == ("gpu", 5, "3GB", 4)
    assert array["second_chances"] >= 100
    assert any("2 Slurm jobs are queued (7_0, 7_1)" in line for line in lines)
    again = array["again"]
    assert again.function(*again.args) == ("done", "")  # a job that ran out of time is the same call once more


def test_a_job_that_slurm_ends_is_a_failure_and_the_others_count(array, tmp_path, monkeypatch):
    honest = submitit.AutoExecutor.map_array

    def killed(self, function, jobs):
        tasks = honest(self, function, jobs)

        def result():
            raise submitit.core.utils.UncompletedJobError("Job 7_0 and much more\nsrun: error: Out Of Memory")

        tasks[0].result, tasks[0].state = result, "OUT_OF_MEMORY"
        return tasks

    monkeypatch.setattr(submitit.AutoExecutor, "map_array", killed)
    the_plan = plan(tmp_path, 1)
    with pytest.raises(KitError, match="1 of 2 runs failed") as error:
        run(the_plan)
    assert (
        "seed 0: Slurm job 7_0 (OUT_OF_MEMORY) ended without an answer: srun: error: Out Of Memory (its log: the.log)"
        in str(error.value)
    )
    assert status(the_plan)["state"].tolist() == ["waiting", "done"]


def test_what_sbatch_answers_reaches_the_user(programs, tmp_path):
    (programs / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition specified: gpuu >&2\nexit 1\n")
    with pytest.raises(KitError, match="Slurm did not take the jobs") as error:
        run(plan(tmp_path), slurm={"slurm_partition": "gpuu"})
    assert "invalid partition specified: gpuu" in str(error.value)
    assert "slurm_partition=gpuu" in str(error.value)


@pytest.mark.parametrize("given", [{"timeout_min": "4 hours"}, {"cpus_per_task": 1.5}])
def test_a_value_of_the_wrong_kind(given, programs, tmp_path):
    with pytest.raises(KitError, match="Slurm did not take the jobs") as error:
        run(plan(tmp_path), slurm=given)
    assert next(iter(given)) in str(error.value)


def test_what_a_job_asks_for_by_default():
    assert job_parameters("gpu", processes=2, workers=8) == {
        "timeout_min": 240, "cpus_per_task": 18, "gpus_per_node": 2}  # fmt: skip
    assert "gpus_per_node" not in job_parameters("paper", device="cpu")
    assert job_parameters("smoke") == {"timeout_min": 240, "cpus_per_task": 4}
    defaults = job_parameters("paper", workers=12)
    assert merged(defaults, {"slurm_gpus_per_task": 1, "slurm_cpus_per_gpu": 8, "slurm_time": 60}) == {
        "slurm_gpus_per_task": 1, "slurm_cpus_per_gpu": 8, "slurm_time": 60}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"slurm_partiton": "gpu"}, "did you mean 'slurm_partition'"),
        ({"partition": "gpu"}, "did you mean 'slurm_partition'"),
        ({"timeout": 5}, "did you mean 'timeout_min'"),
        ({"qos": "long"}, "did you mean 'slurm_qos'"),
        ({"colour": "red"}, "no such parameter"),
        ({"tasks_per_node": 2}, "--devices"),
        ({"nodes": 2}, "one task on one node"),
        ({"slurm_time": "1-00:00:00"}, "timeout_min"),
    ],
)
def test_a_parameter_that_cannot_be(given, message):
    with pytest.raises(KitError) as error:
        checked(given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slurm", "slurm_partition=gpu"], "add --launcher slurm"),
        (["--launcher", "slurm", "--slurm", "slurm_partition"], "write --slurm KEY=VALUE"),
        (["--launcher", "slurm", "--slurm", "partition=gpu"], "did you mean 'slurm_partition'"),
    ],
)
def test_command_line(words, message, programs, tmp_path):
    result = CliRunner().invoke(app, ["table3", "--profile", "smoke", "--root", str(tmp_path), *words])
    assert isinstance(result.exception, KitError)
    assert message in str(result.exception)
