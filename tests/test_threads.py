"""The threads behind the CPU kernels: every task once, one pool, and no exception while a thread is in a kernel."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from combinations import first
from torch.utils.data import DataLoader, Dataset

from lkm_kit.ssm import selective_scan
from lkm_kit.ssm.backends import threads
from lkm_kit.ssm.backends.threads import run_ranges


@pytest.fixture(autouse=True)
def four_threads():
    torch.set_num_threads(4)


def pool_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lkm-scan")]


def every_task_once(tasks):
    done = []
    run_ranges(lambda first, last: done.extend(range(first, last)), tasks)
    return sorted(done) == list(range(tasks))


def scan():
    """Output and gradient of a scan, without a matrix product: torch's own threads do not survive a fork."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(3, 16, 40, generator=generator, requires_grad=True)
    y = selective_scan(u, u, -torch.ones(16, 4), u[:, :4], u[:, :4], delta_softplus=True, backend="cpu")
    return torch.cat([y.flatten(), torch.autograd.grad(y.square().sum(), u)[0].flatten()])


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 5, 16, 17, 1000])
def test_every_task_runs_once(tasks):
    assert every_task_once(tasks)


def test_the_threads_work_at_the_same_time():
    meet = threading.Barrier(4)
    run_ranges(lambda first, last: meet.wait(timeout=20), 4)  # one that comes alone would wait for ever


def test_one_pool_through_many_sizes_of_work(monkeypatch):
    """Calls with fewer tasks than threads must not replace the pool, as they come and go all through a step."""
    threads._forget_after_fork()
    made = []

    class Counted(concurrent.futures.ThreadPoolExecutor):
        def __init__(self, *arguments, **options):
            made.append(arguments)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Counted)
    for tasks in (2, 100, 3, 4, 2, 50) * 5:
        assert every_task_once(tasks)
    assert made == [(3,)]
    for number, size in ((2, 3), (6, 5), (3, 5), (1, 5)):  # changed midway: the pool only ever grows
        torch.set_num_threads(number)
        assert every_task_once(40)
        assert made[-1] == (size,)
    assert len(made) == 2


def test_no_more_helpers_than_asked_for():
    torch.set_num_threads(6)
    run_ranges(lambda first, last: time.sleep(0.01), 24)
    torch.set_num_threads(2)
    seen = set()

    def kernel(first, last):
        seen.add(threading.get_ident())
        time.sleep(0.005)

    run_ranges(kernel, 24)
    assert len(seen) == 2


def test_eight_python_threads_at_once():
    expected = scan()
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        results = [call.result() for call in [callers.submit(every_task_once, 500) for _ in range(64)]]
        torch.testing.assert_close(scan(), expected, rtol=0, atol=0)
    assert all(results)
    assert len(pool_threads()) <= 16


def test_a_kernel_that_shares_work_itself():
    done = []
    run_ranges(lambda first, last: run_ranges(lambda a, b: done.extend(range(a, b)), 5), 8)
    assert len(done) == 8 * 5


@pytest.mark.parametrize("where", ["caller", "helper"])
def test_an_error_leaves_only_when_all_threads_are_out(where):
    """... and what was not begun is dropped."""
    caller, inside, begun = threading.get_ident(), [], []
    meet = threading.Barrier(4)

    def kernel(first, last):
        begun.append(first)
        inside.append(first)
        try:
            if len(begun) <= 4:
                meet.wait(timeout=20)
            if (threading.get_ident() == caller) == (where == "caller"):
                raise ArithmeticError(where)
            time.sleep(0.2)
        finally:
            inside.remove(first)

    with pytest.raises(ArithmeticError, match=where):
        run_ranges(kernel, 1000)
    assert not inside
    assert len(begun) < 16
    assert every_task_once(100)


def test_without_a_thread_to_be_had_the_caller_works_alone(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", refuse)
    assert every_task_once(100)


def _report(queue):
    queue.put(bool(every_task_once(100)) and scan().tolist())


@pytest.mark.parametrize("method", first(sorted(multiprocessing.get_all_start_methods())))
def test_in_a_child_process(method):
    expected = scan()  # the parent has a pool by now, which a forked child must not use
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_report, args=(queue,))
    child.start()
    result = queue.get(timeout=120)
    child.join()
    torch.testing.assert_close(torch.tensor(result), expected, rtol=1e-5, atol=1e-5)


class Scans(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return scan().detach()


def test_inside_workers_of_a_data_loader():
    expected = scan().detach()
    for batch in DataLoader(Scans(), batch_size=2, num_workers=2):
        torch.testing.assert_close(batch[0], expected, rtol=1e-5, atol=1e-5)


INTERRUPTED = """
import random, signal, sys, torch
from lkm_kit.ssm import Mamba
torch.set_num_threads(4)
torch.manual_seed(0)
mixer, tokens = Mamba(32), torch.randn(4, LENGTH, 32)

def step():
    for p in mixer.parameters():
        p.grad = None
    y = mixer(tokens)
    y.square().mean().backward()
    return [y.detach(), *[p.grad for p in mixer.parameters()]]

step()
quiet = step()
signal.signal(signal.SIGALRM, signal.default_int_handler)  # what Ctrl-C does
generator, caught = random.Random(0), 0
for _ in range(TIMES):
    signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.001, SECONDS))
    try:
        while True:
            step()
    except KeyboardInterrupt:
        caught += 1
    if caught % 10 == 0:
        for a, b in zip(step(), quiet, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
print("caught", caught)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs an interval timer")
@pytest.mark.parametrize("times", first([10, 50]))
def test_a_long_scan_is_interrupted_many_times(times):
    """An exception that left while a thread still wrote through bare addresses ended the process in a crash."""
    code = INTERRUPTED.replace("LENGTH", "5_000").replace("SECONDS", "0.15").replace("TIMES", str(times))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr[-3000:]}"
    assert done.stdout.split() == ["caught", str(times)]
