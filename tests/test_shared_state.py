"""No test leaves behind what another one could stumble over."""

import os

import pytest
import shared_state
import torch

from lkm_kit.blocks import ORDERS
from lkm_kit.ssm.backends import kernel_cache


def test_what_a_test_changes_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setenv("LKM_KEPT", "1")
    folder, threads, orders = os.getcwd(), torch.get_num_threads(), list(ORDERS)
    with pytest.raises(ZeroDivisionError), shared_state.put_back():
        os.environ["LKM_NEW"] = "1"
        del os.environ["LKM_KEPT"]
        os.chdir(tmp_path)
        torch.set_num_threads(threads + 1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        ORDERS["mine"] = ORDERS.pop("contiguous")
        kernel_cache._troubles.append("of this test")
        raise ZeroDivisionError
    assert "LKM_NEW" not in os.environ and os.environ["LKM_KEPT"] == "1" and os.getcwd() == folder
    assert torch.get_num_threads() == threads and torch.zeros(1).dtype == torch.float32 and torch.is_grad_enabled()
    assert list(ORDERS) == orders and "of this test" not in kernel_cache._troubles


def test_it_is_in_force_for_every_test(request):
    assert "as_it_was" in request.fixturenames
