"""The S6 operator: one public function that checks its input, chooses a backend and says why another is not there."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal, overload

import torch
from torch import Tensor

from lkm_kit.devices import without_autocast
from lkm_kit.errors import KitError
from lkm_kit.ssm.backends import cpu, cuda, reference, triton
from lkm_kit.ssm.backends.constant import with_constants
from lkm_kit.ssm.backends.derivatives import WHY_NOT, transforms_active
from lkm_kit.ssm.backends.operators import Scan, grouped, wide

# In the order in which "auto" takes them.
_ORDER = ("cuda", "triton", "cpu", "reference")
_SCANS = {
    "cuda": cuda.selective_scan,
    "triton": with_constants(triton.selective_scan),
    "cpu": with_constants(cpu.selective_scan),
    "reference": reference.selective_scan,
}
# Triton's interpreter runs the GPU kernels on the CPU, token by token: for tests.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _triton_why_not() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (torch's CUDA wheels bring it)"
    return None if torch.cuda.is_available() or _INTERPRETED else "torch sees no CUDA device"


# Looked up once: torch.compile cannot trace a search for packages.
_WHY_NOT = {
    "cuda": cuda.why_not(),
    "triton": _triton_why_not(),
    "cpu": None if importlib.util.find_spec("numba") else "numba is not installed",
    "reference": None,
}


def scan_backends() -> dict[str, str]:
    """Say for every backend ``"ok"`` or why it is not to be had on this machine.

    Where ``cpu`` cannot keep its compiled kernels on disk, ``"ok, but ..."`` says why.

    >>> scan_backends()["reference"]
    'ok'
    """
    states = {name: _WHY_NOT[name] or "ok" for name in reversed(_ORDER)}
    if states["cpu"] == "ok":
        from lkm_kit.ssm.backends.kernel_cache import cache_trouble

        trouble = cache_trouble()
        if trouble:
            states["cpu"] = f"ok, but every process compiles its kernels again ({trouble})"
    return states


def choose_backend(device: torch.device, name: str = "auto", dtype: torch.dtype = torch.float32) -> str:
    """Resolve ``name`` for tensors on ``device``; a backend that cannot serve them is an error, never a silent swap.

    Args:
        device: of the tensors.
        name: ``"auto"`` takes the first of cuda, triton, cpu and reference that gives right values and derivatives.
        dtype: of the tensors; complex where A is.

    Raises:
        KitError: there is no such backend, or it cannot serve such tensors here and now.

    >>> choose_backend(torch.device("cpu"), "reference")
    'reference'
    >>> torch.func.vmap(lambda x: x * len(choose_backend(x.device)))(torch.ones(1)) == len("reference")
    tensor([True])
    """
    if name == "auto":
        return next(n for n in _ORDER if _why_not(n, device, dtype) is None)
    if name not in _ORDER:
        raise KitError(f"there is no scan backend {name!r}", remedy=f"choose one of auto, {', '.join(_ORDER)}")
    if name == "triton" and device.type == "meta":
        return name  # shapes pass through its operators, which for that need neither a card nor triton
    interpreted = name == "triton" and _INTERPRETED
    reason = _why_not(name, torch.device("cuda") if interpreted else device, dtype)
    if reason is not None:
        raise KitError(
            f"scan backend {name!r} cannot be used: {reason}",
            remedy="use backend='auto' or 'reference'; `lkm doctor` says what this machine has",
        )
    return name


def _why_not(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    if name == "reference" or _WHY_NOT[name] is not None:
        return _WHY_NOT[name]
    # tensors that have a shape only pass through the CPU's operators, which have those of all fused ones
    if device.type not in (("cpu", "meta") if name == "cpu" else ("cuda",)):
        return f"the tensors are on {device}"
    if name != "cuda" and dtype.is_complex:
        return "its kernels are real, and A is complex"
    if name != "cpu" and dtype in (torch.float64, torch.complex128):
        return "it computes in float32, and the tensors are float64"
    return WHY_NOT if transforms_active() else None


@overload
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, reverse: bool = False,
    return_last_state: Literal[False] = False, backend: str = "auto",
) -> Tensor: ...  # fmt: skip
@overload
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, reverse: bool = False,
    *, return_last_state: Literal[True], backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run the selective scan (S6): a recurrence whose Δ, B and C change from token to token.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,  y_t = C_t h_t + D u_t, and y_t · SiLU(z_t) where z is given.

    Args:
        u, delta, z: (batch, d, length); any strides, any float dtype. ``(b, l, d).transpose(1, 2)`` is the layout
            that costs no copy on the ``cpu`` backend.
        A: (d, n), the diagonal of the state matrix of every channel (negative for a stable system).
        B, C: (batch, n, length), the same for all channels; (batch, groups, n, length), where a group serves d / groups
            channels that follow each other; or constant, (d, n). Both with equally many groups.
        D, delta_bias: (d,), optional.
        delta_softplus: Δ ← softplus(Δ + delta_bias); without it Δ ← Δ + delta_bias.
        reverse: scan from the last token to the first, without flipped copies.
        return_last_state: also return the state after the last step (after token 0 where ``reverse``).
        backend: ``"auto"`` or a name of :func:`scan_backends`.

    Returns:
        y (batch, d, length) in u's dtype; with ``return_last_state`` also h (batch, d, n). The state is kept in
        float32 whatever the input (float64 for float64 input).

    A complex A stands for pairs of conjugate states: y_t = 2 Re(C_t h_t) + D u_t. A constant B or C is then complex
    too. One of tokens is real with twice the length, real and imaginary part of a token beside each other. The state is
    complex. The fused kernels are real: ``auto`` takes ``reference``, or ``cuda`` where mamba_ssm is installed.

    Raises:
        KitError: shapes or devices that do not belong together, unknown or unusable backend.

    Source: paper Section 2, Eq. 2-3; Gu & Dao 2023, Algorithm 2; same meaning and operands as mamba_ssm's
    ``selective_scan_fn``, plus ``reverse``. The last state carries gradient on the ``reference`` backend only;
    elsewhere it is detached. A constant B or C costs n times the memory of u on ``cpu`` and ``triton``.

    What each backend computes and differentiates. ``auto`` takes one that can, as far as it is known in time; that a
    gradient will be differentiated again is not. A named one raises a KitError for the rest:

    ============================================ ========= === ====== ====
    \                                            reference cpu triton cuda
    ============================================ ========= === ====== ====
    float32, bfloat16, float16                   yes       yes yes    yes
    float64                                      yes       yes no     no
    groups, constant B or C                      yes       yes yes    yes
    complex A                                    yes       no  no     yes
    first derivatives of y by ``backward()``     yes       yes yes    yes
    derivatives of the last state                yes       no  no     no
    ``torch.func``: jvp, vmap, jacrev, grad, ... yes       no  no     no
    forward mode (``torch.autograd.forward_ad``) yes       no  no     no
    ``is_grads_batched``, second derivatives     yes       no  no     no
    ============================================ ========= === ====== ====

    >>> u = torch.ones(1, 2, 4)
    >>> A, BC = -torch.ones(2, 1), torch.ones(1, 1, 4)
    >>> forward = selective_scan(u, u, A, BC, BC, backend="reference")
    >>> backward = selective_scan(u, u, A, BC, BC, reverse=True, backend="reference")
    >>> torch.equal(forward.flip(-1), backward)
    True
    """
    operands = _checked(Scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse))
    dtype = torch.promote_types(A.dtype, wide(u.dtype)) if A.is_complex() else u.dtype
    scan = _SCANS[choose_backend(u.device, backend, dtype)]
    with without_autocast(u.device):  # the state must not be rounded to bf16/fp16
        y, last_state = scan(operands)
    return (y, last_state) if return_last_state else y


def _checked(scan: Scan) -> Scan:
    """The operands after a look at their shapes, B and C of tokens complex where A is."""
    u, delta, A, B, C, D, z, delta_bias = scan[:8]
    if u.ndim != 3:
        raise KitError(
            f"u has shape {tuple(u.shape)}; selective_scan needs (batch, d, length)",
            remedy="tokens of shape (batch, length, d) go in as tokens.transpose(1, 2)",
        )
    batch, d, length = u.shape
    if A.ndim != 2 or A.shape[0] != d:
        raise KitError(f"A has shape {tuple(A.shape)}; with u {tuple(u.shape)} it needs ({d}, n)")
    if length == 0 or A.shape[1] == 0:
        raise KitError(f"empty scan: length {length}, state size {A.shape[1]}; both must be at least 1")
    tokens, pair = (batch, d, length), 2 if A.is_complex() else 1
    wanted = {"delta": (delta, tokens), "D": (D, (d,)), "z": (z, tokens), "delta_bias": (delta_bias, (d,))}
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise KitError(
                f"{name} has shape {tuple(tensor.shape)}; with u {tuple(u.shape)} and A {tuple(A.shape)} it needs "
                f"{shape}",
            )
    for name, tensor in (("B", B), ("C", C)):
        _check_rows(name, tensor, (batch, A.shape[1], pair * length), d)
    if 2 not in (B.ndim, C.ndim) and grouped(B).shape[1] != grouped(C).shape[1]:
        raise KitError(f"B has shape {tuple(B.shape)}, C {tuple(C.shape)}: both need equally many groups")
    for name, tensor in {"u": u, "A": A, "B": B, "C": C, **{k: t for k, (t, _) in wanted.items()}}.items():
        if tensor is None:
            continue
        complex_one = A.is_complex() and (name == "A" or (name in ("B", "C") and tensor.ndim == 2))
        if not (tensor.is_complex() if complex_one else tensor.is_floating_point()):
            kind = "complex numbers, as A has them" if complex_one else "floating point"
            raise KitError(
                f"{name} has dtype {tensor.dtype}; selective_scan needs {kind}",
                remedy=f"use .to({A.dtype})" if complex_one else "use .float()",
            )
        if tensor.device != u.device:
            raise KitError(f"{name} is on {tensor.device}, u on {u.device}", remedy=f"move {name} with .to(u.device)")
    if not A.is_complex():
        return scan
    B, C = (t if t.ndim == 2 else torch.view_as_complex(_pairs(t)) for t in (B, C))
    return scan._replace(B=B, C=C)


def _check_rows(name: str, t: Tensor, tokens: tuple[int, int, int], d: int) -> None:
    batch, n, length = tokens
    fits = {2: (d, n), 3: tokens, 4: (batch, t.shape[1] if t.ndim == 4 else 1, n, length)}.get(t.ndim)
    if fits is None or tuple(t.shape) != fits or (t.ndim == 4 and (t.shape[1] == 0 or d % t.shape[1])):
        raise KitError(
            f"{name} has shape {tuple(t.shape)}; needed are {tokens}, ({batch}, groups, {n}, {length}) with a number "
            f"of groups that divides {d}, or ({d}, {n})"
        )


def _pairs(t: Tensor) -> Tensor:
    """(..., 2 length) as (..., length, 2), in a dtype that has complex numbers."""
    return t.to(wide(t.dtype)).unflatten(-1, (-1, 2)).contiguous()
