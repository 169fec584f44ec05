"""Linear state-space models, Eq. 1-4: one system as a differential equation, a recurrence and a convolution.

Symbols are the paper's. A is a full matrix (n, n) or, as in Mamba, its diagonal (n,). B and C are vectors (n,) for one
input and one output. Ā and B̄ are written ``A_bar`` and ``B_bar``. Everything works in the dtype of its input; the
checks of the kit use float64.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from lkm_kit.errors import KitError, one_of

METHODS = ("zoh", "euler", "bilinear")


def _check_system(A: Tensor, B: Tensor) -> bool:
    """True where A is a diagonal."""
    diagonal = A.ndim == 1
    n = A.shape[0]
    if A.ndim not in (1, 2) or (A.ndim == 2 and A.shape != (n, n)):
        raise KitError(f"A has shape {tuple(A.shape)}", remedy="give a matrix (n, n), or its diagonal (n,)")
    if B.ndim != 1 or B.shape[0] != n:
        raise KitError(f"B has shape {tuple(B.shape)}; with A {tuple(A.shape)} it needs ({n},)")
    return diagonal


def discretize(A: Tensor, B: Tensor, delta: float | Tensor, method: str = "zoh") -> tuple[Tensor, Tensor]:
    """Turn h' = A h + B x into h_t = Ā h_{t-1} + B̄ x_t with steps of length Δ.

    Args:
        A: (n, n), or the diagonal (n,).
        B: (n,).
        delta: Δ > 0, in the time unit of A.
        method: ``"zoh"`` holds x constant over a step and is then exact (Eq. 2); ``"euler"`` takes one explicit Euler
            step; ``"bilinear"`` is the trapezoidal rule. Mamba takes Ā of ``"zoh"`` and B̄ of ``"euler"``.

    Returns:
        A_bar in A's shape, B_bar (n,).

    Raises:
        KitError: shapes that do not belong together, Δ not positive, unknown method.

    Source: Eq. 2. Its B̄ = (ΔA)⁻¹(exp(ΔA) - I) ΔB needs an invertible A. Here a singular A is fine, because exp of the
    block matrix [[A, B], [0, 0]] Δ holds Ā and B̄ without any inverse.

    >>> A_bar, B_bar = discretize(torch.tensor([0.0]), torch.tensor([2.0]), 0.5)   # an integrator: A is singular
    >>> A_bar.item(), B_bar.item()
    (1.0, 1.0)
    """
    diagonal = _check_system(A, B)
    delta = torch.as_tensor(delta, dtype=A.dtype, device=A.device)
    if delta.ndim or not delta > 0:
        raise KitError(f"delta is {delta.tolist()}", remedy="give one step length Δ > 0")
    one_of(method, METHODS, "discretisation")
    if diagonal:
        return _discretize_diagonal(A, B, delta, method)
    identity = torch.eye(A.shape[0], dtype=A.dtype, device=A.device)
    if method == "euler":
        return identity + delta * A, delta * B
    if method == "bilinear":
        both = torch.cat([identity + delta / 2 * A, delta * B[:, None]], dim=1)
        solved = torch.linalg.solve(identity - delta / 2 * A, both)
        return solved[:, :-1], solved[:, -1]
    block = A.new_zeros(A.shape[0] + 1, A.shape[0] + 1)
    block[:-1, :-1], block[:-1, -1] = A, B
    exponential = torch.linalg.matrix_exp(delta * block)
    return exponential[:-1, :-1], exponential[:-1, -1]


def _discretize_diagonal(A: Tensor, B: Tensor, delta: Tensor, method: str) -> tuple[Tensor, Tensor]:
    z = delta * A
    if method == "euler":
        return 1 + z, delta * B
    if method == "bilinear":
        return (1 + z / 2) / (1 - z / 2), delta * B / (1 - z / 2)
    safe = torch.where(z == 0, torch.ones_like(z), z)
    return torch.exp(z), torch.where(z == 0, torch.ones_like(z), torch.expm1(safe) / safe) * delta * B


def recurrence(A_bar: Tensor, B_bar: Tensor, C: Tensor, x: Tensor, h0: Tensor | None = None) -> Tensor:
    """Eq. 3: h_t = Ā h_{t-1} + B̄ x_t, y_t = C h_t, one step after the other.

    Args:
        A_bar: (n, n) or (n,); B_bar, C: (n,).
        x: (..., length).
        h0: state before the first token (..., n); zero by default.

    Returns:
        y (..., length).

    >>> one = torch.ones(1)
    >>> recurrence(one / 2, one, one, torch.tensor([1.0, 0.0, 0.0])).tolist()
    [1.0, 0.5, 0.25]
    """
    diagonal = _check_system(A_bar, B_bar)
    _check_read_out(C, B_bar)
    h = x.new_zeros(*x.shape[:-1], B_bar.shape[0]) if h0 is None else h0
    ys = []
    for x_t in x.unbind(-1):
        h = (A_bar * h if diagonal else h @ A_bar.T) + B_bar * x_t[..., None]
        ys.append(h @ C)
    return torch.stack(ys, dim=-1)


def convolution_kernel(A_bar: Tensor, B_bar: Tensor, C: Tensor, length: int) -> Tensor:
    """Eq. 4: K̄ = (C B̄, C Ā B̄, ..., C Ā^{L-1} B̄), the answer of the recurrence to a single 1.

    Args:
        A_bar: (n, n) or (n,); B_bar, C: (n,).
        length: L ≥ 1.

    Returns:
        K (L,).

    Warns:
        UserWarning: the system is unstable (an eigenvalue of Ā beyond the unit circle): the kernel grows without bound.

    >>> one = torch.ones(1)
    >>> convolution_kernel(one / 2, one, one, 3).tolist()
    [1.0, 0.5, 0.25]
    """
    diagonal = _check_system(A_bar, B_bar)
    _check_read_out(C, B_bar)
    if length < 1:
        raise KitError(f"length is {length}", remedy="ask for a kernel of at least one step")
    radius = (A_bar if diagonal else torch.linalg.eigvals(A_bar)).abs().max().item()
    if radius > 1 + 1e-6:
        warnings.warn(f"unstable system: an eigenvalue of A_bar has size {radius:.4g} > 1", stacklevel=2)
    if diagonal:
        steps = torch.arange(length, dtype=A_bar.dtype, device=A_bar.device)
        return (C * B_bar) @ A_bar[:, None] ** steps
    terms, v = [], B_bar
    for _ in range(length):
        terms.append(C @ v)
        v = A_bar @ v
    return torch.stack(terms)


def causal_convolution(x: Tensor, kernel: Tensor, method: str = "fft") -> Tensor:
    """y_t = Σ_{s ≤ t} K̄_s x_{t-s}: every output sees its past, none sees its future.

    Args:
        x: (..., length).
        kernel: (k,), or (channels, k) for x (..., channels, length); taps beyond the length are not used, missing ones
            are zero.
        method: ``"fft"``, O(L log L), or ``"direct"``, O(L²), the definition.

    Returns:
        y (..., length).

    Raises:
        KitError: unknown method.

    >>> causal_convolution(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 0.5]), "direct").tolist()
    [1.0, 0.5, 2.0]
    """
    length = x.shape[-1]
    kernel = kernel[..., :length]
    if method == "direct":
        y = torch.zeros_like(x)
        for s, tap in enumerate(kernel.unbind(-1)):
            y[..., s:] = y[..., s:] + tap[..., None] * x[..., : length - s]
        return y
    if method == "fft":
        size = length + kernel.shape[-1] - 1  # room for the tail: a shorter transform would wrap it to the front
        spectrum = torch.fft.rfft(x, size) * torch.fft.rfft(kernel, size)
        return torch.fft.irfft(spectrum, size)[..., :length]
    raise KitError(f"there is no convolution method {method!r}", remedy="choose 'fft' or 'direct'")


def exact_response(
    A: Tensor, B: Tensor, C: Tensor, times: Tensor, omega: float = 0.0, h0: Tensor | None = None
) -> Tensor:
    """y(t) of Eq. 1 for the input x(t) = cos(ωt), without any time step: the yardstick of every discretisation.

    The cosine is itself the solution of a linear system, so both together are one system without input, and its
    solution is a matrix exponential.

    Args:
        A: (n, n) or (n,); B, C: (n,).
        times: (m,), in the time unit of A.
        omega: angular frequency; 0 is a constant input of 1.
        h0: h(0), (n,); zero by default.

    Returns:
        y (m,).

    >>> t = torch.linspace(0, 1, 3, dtype=torch.float64)
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> torch.allclose(exact_response(-one, one, one, t), 1 - torch.exp(-t))
    True
    """
    if _check_system(A, B):
        A = torch.diag(A)
    _check_read_out(C, B)
    n = A.shape[0]
    joint = A.new_zeros(n + 2, n + 2)
    joint[:n, :n], joint[:n, n] = A, B
    joint[n, n + 1], joint[n + 1, n] = -omega, omega  # cos' = -ω sin, sin' = ω cos
    start = A.new_zeros(n + 2)
    start[n] = 1.0
    if h0 is not None:
        start[:n] = h0
    return (torch.linalg.matrix_exp(times[:, None, None] * joint) @ start)[:, :n] @ C


def _check_read_out(C: Tensor, B: Tensor) -> None:
    if C.shape != B.shape:
        raise KitError(f"C has shape {tuple(C.shape)}; it needs B's, {tuple(B.shape)}")
