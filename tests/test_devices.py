"""How many processors a process may use: the affinity mask, containers' quotas, Slurm's and OpenMP's numbers."""

import os
import subprocess
import sys

import pytest
import torch

from lkm_kit import devices
from lkm_kit.devices import allotted_cpus, available_cpus, resolve_device, use_threads
from lkm_kit.errors import KitError
from lkm_kit.studies.launchers import side_by_side
from lkm_kit.training import TrainConfig
from lkm_kit.training import threads as choosing
from lkm_kit.training.identity import Identity
from lkm_kit.training.store import Run


@pytest.fixture(autouse=True)
def machine_of_64(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(devices, "_cgroup_quotas", lambda: [])
    for variable in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def test_the_whole_machine_where_nothing_says_otherwise():
    assert available_cpus() == 64


def test_the_least_of_all_limits(machine_of_64):
    machine_of_64.setattr(os, "sched_getaffinity", lambda process: set(range(4, 12)))
    assert available_cpus() == 8
    machine_of_64.setattr(devices, "_cgroup_quotas", lambda: [16.0, 5.5])
    assert available_cpus() == 6
    machine_of_64.setenv("SLURM_CPUS_ON_NODE", "5")  # of a job that asked for tasks alone
    assert available_cpus() == 5
    machine_of_64.setenv("SLURM_CPUS_PER_TASK", "4")
    assert available_cpus() == 4
    machine_of_64.setenv("OMP_NUM_THREADS", "2,1")
    assert available_cpus() == 2
    assert allotted_cpus() == 4


@pytest.mark.parametrize("text", ["", "0", "-3", "many", "1e3", "(x3)", ",2"])
def test_what_is_no_number_of_processors_counts_as_nothing(machine_of_64, text):
    machine_of_64.setenv("OMP_NUM_THREADS", text)
    machine_of_64.setenv("SLURM_CPUS_PER_TASK", text)
    assert available_cpus() == 64


@pytest.mark.parametrize(("text", "number"), [("2(x3)", 2), ("8,4(x2)", 8), (" 3 ", 3), ("04", 4)])
def test_the_first_of_a_list_counts(machine_of_64, text, number):
    machine_of_64.setenv("SLURM_CPUS_PER_TASK", text)
    assert allotted_cpus() == number


def test_a_quota_below_one_processor_leaves_one(machine_of_64):
    machine_of_64.setattr(devices, "_cgroup_quotas", lambda: [0.2])
    assert available_cpus() == 1


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V1 = "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "quotas"),
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, [1.5]),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, []),
        (
            {
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user/cpu.max": "400000 100000\n",
            },
            [4.0],
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/box\n3:cpu,cpuacct:/docker/0a:b\n",
                f"{V1}/cpu.cfs_quota_us": "200000\n",  # a container sees its own cgroup at the top
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            [2.0],
        ),
        (
            {
                "proc/self/cgroup": "3:cpuacct,cpu:/\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            [],
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": ""}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 max\n"}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "0 0\n"}, []),
    ],
)
def test_quotas_of_both_versions_of_cgroups(tmp_path, monkeypatch, files, quotas):
    monkeypatch.undo()
    write(tmp_path, files)
    assert list(devices._cgroup_quotas(tmp_path)) == quotas


def test_torch_is_held_to_what_is_allotted(machine_of_64):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(8)
        resolve_device("cpu")
        assert torch.get_num_threads() == 8
        machine_of_64.setenv("SLURM_CPUS_PER_TASK", "3")
        resolve_device("cpu")
        assert torch.get_num_threads() == 3
        torch.set_num_threads(2)  # fewer are the user's choice
        resolve_device("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_for_a_while():
    before = torch.get_num_threads()
    with use_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with use_threads(None):
        assert torch.get_num_threads() == before
    for number, processes, words in ((0, 1, "0 threads"), (65, 1, "65 threads"), (2, 2, "several processes")):
        with pytest.raises(KitError, match=words), use_threads(number, processes):
            pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_a_run_on_one_of_several_processors_gets_one_thread():
    code = (
        "import os, sys\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from lkm_kit.studies import launchers\n"
        "launchers._in_process = lambda job, root, how: how['threads']\n"
        "print(launchers.local_processes([1], '', 1, {}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1]"


def test_runs_of_one_thread_fill_a_cpu_and_follow_one_another_elsewhere(monkeypatch):
    monkeypatch.setattr("lkm_kit.studies.launchers.available_cpus", lambda: 8)
    assert side_by_side("cpu") == {"launcher": "processes", "concurrent": 8, "threads": 1}
    assert side_by_side("cpu", threads=3) == {"launcher": "processes", "concurrent": 2, "threads": 3}
    assert side_by_side("cpu", concurrent=2) == {"launcher": "processes", "concurrent": 2, "threads": None}
    monkeypatch.setattr("lkm_kit.studies.launchers.available_cpus", lambda: 1)
    assert side_by_side("cpu") == {"launcher": "serial", "concurrent": 1, "threads": 1}
    monkeypatch.setattr("lkm_kit.studies.launchers.resolve_device", lambda name: torch.device("cuda"))
    assert side_by_side("auto") == {"launcher": "serial", "concurrent": 1, "threads": None}


def test_a_training_gets_the_threads_it_was_begun_with_and_the_fewest_worth_having_else(tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "available_cpus", lambda: 2)
    sizes = {"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "kernel_sizes": 3}
    config = TrainConfig(network="residual-unet/tiny-2d", network_overrides=sizes, image_size=(16, 16), batch_size=2)
    before, seed = torch.get_num_threads(), torch.get_rng_state()
    ticks = iter(range(10**6))
    seconds = choosing.step_seconds(config, [1, 2], clock=lambda: float(next(ticks)))
    assert seconds == {1: 1.0, 2: 1.0} and torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), seed)
    for found, chosen in (({1: 1.0, 2: 0.95}, 1), ({1: 1.0, 2: 0.8}, 2)):
        monkeypatch.setattr(choosing, "step_seconds", lambda config, numbers, found=found: found)
        assert choosing.choose_threads(config, tmp_path, "cpu") == chosen
    run = Run(tmp_path, Identity({}))
    run.open()
    run.save_state({"history": [], "made_with": {"threads": 1}})
    assert choosing.choose_threads(config, tmp_path, "cpu") == 1  # although two would be taken now
    (tmp_path / "done.json").write_text("{}")
    assert choosing.choose_threads(config, tmp_path, "cpu") is None
