"""What the fused kernels differentiate: first derivatives by ``backward()``, one vector at a time; all else is refused.

torch would give other answers where an operator says nothing: forward mode a derivative of zero, ``vmap`` a slow loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import torch
from torch.autograd import forward_ad

from lkm_kit.errors import KitError

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

WHY_NOT = "its kernels know first derivatives by backward() only, without forward mode, vmap or a second derivative"


def transforms_active() -> bool:
    """Whether torch.func (jvp, vmap, jacrev, grad, ...) or forward-mode differentiation is at work around the caller.

    >>> torch.func.vmap(lambda x: x * transforms_active())(torch.ones(2)), transforms_active()
    (tensor([1., 1.]), False)
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def only_first_derivatives(operator: CustomOpDef, gradient: CustomOpDef) -> None:
    """Refuse vmap of an operator and of its gradient, and the gradient's own gradient, by one message.

    Args:
        operator, gradient: the forward and the backward operator of a fused kernel.
    """

    def refuse(*_) -> NoReturn:
        raise KitError(
            f"no such derivative through {operator._qualname}: {WHY_NOT}",
            remedy="use backend='reference', of which torch differentiates every step",
        )

    for op in (operator, gradient):
        op.register_vmap(refuse)
        torch.library.impl(op._qualname, "Batched")(refuse)  # is_grads_batched has a vmap of its own
    gradient.register_autograd(refuse)
