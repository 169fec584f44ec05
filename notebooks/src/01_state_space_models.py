# %% [markdown]
# # 01 · State-space models: one system, three faces
#
# *20 minutes to read, 40 for the exercises, half a minute to run.* Before: [00_start_here](00_start_here.ipynb). After:
# [02_selective_scan](02_selective_scan.ipynb).
#
# **Goals.** After this chapter you can
# * read Eq. 1-4 of the paper and say what every symbol is,
# * turn a differential equation into a recurrence, and say what that costs in accuracy,
# * compute the same output step by step, as a convolution, and by FFT, and *check* that they agree,
# * say why none of this convolution survives in Mamba.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $x_t$, $y_t$ | input and output, one number per token | (length,) |
# | $h_t$ | the state: what the system remembers | (n,) |
# | $A$, $B$, $C$ | how the state decays, takes in the input, and is read out | (n, n) or its diagonal (n,); (n,); (n,) |
# | $\Delta$, $L$ | length of a time step; tokens in the sequence | one number each |
# | $\bar A$, $\bar B$ | $A$ and $B$ of one step | as $A$ and $B$ |
#
# **Why an equation in time for a list of pixels?** Because it gives a memory that is cheap and can be reasoned about.
# A network that reads a sequence token by token needs a state: a few numbers that stand for all it has read. How
# should the state fade, and how fast, so that gradients neither explode nor vanish? A linear differential equation
# answers with one matrix: its eigenvalues are the speeds of forgetting, and whether they are stable can be read off.
# "Time" is the place in the sequence. And as the equation is linear, the same system can be run step by step, or all
# at once as a convolution. Sections 2 to 5 do both.

# %%
import math

import torch

from lkm_kit.course import (
    check_causal,
    check_discretize_diagonal,
    check_half_life,
    check_kernel,
    check_scan,
)
from lkm_kit.plots.lines import plot_lines
from lkm_kit.plots.ssm import selection
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.ssm import (
    causal_convolution,
    convolution_kernel,
    discretize,
    exact_response,
    recurrence,
    selective_scan,
)
from lkm_kit.widgets.ssm import KernelExplorer

use_style()
torch.set_default_dtype(torch.float64)  # so that only the mathematics can differ
print("profile:", profile().name)

# %% [markdown]
# ## 1. A continuous system (Eq. 1)
#
# > *Paper, Section 2, Eq. 1:*  $h'(t) = A\,h(t) + B\,x(t)$, $\quad y(t) = C\,h(t)$.
#
# Read it as a room: $h$ is its temperature, $A < 0$ how fast it cools, $B$ how strongly the heater $x$ acts, $C$ the
# thermometer. With $n$ numbers instead of one, the state can remember several things at different speeds. Here is a
# system with a state of two numbers that oscillate around each other and decay.

# %%
A = torch.tensor([[-0.4, 2.0], [-2.0, -0.4]])
B = torch.tensor([1.0, 0.0])
C = torch.tensor([1.0, 0.5])
print("eigenvalues of A:", torch.linalg.eigvals(A).numpy().round(3))

# %% [markdown]
# The real parts are negative, so the system forgets: it is *stable*. To judge an approximation one needs an exact
# answer. For the input $x(t) = \cos(\omega t)$ there is a formula. The cosine solves a linear equation of its own, so
# both together are one larger linear system, without input. The solution of such a system is a matrix exponential. The
# library has it as `exact_response`.

# %%
omega, end = 1.0, 12.0
fine = torch.linspace(0, end, 400)
exact = exact_response(A, B, C, fine, omega)

# %% [markdown]
# ## 2. From time to steps: discretisation (Eq. 2)
#
# A computer sees $x$ only at the times $0, \Delta, 2\Delta, \dots$ Hold each value until the next one arrives
# (*zero-order hold*) and solve Eq. 1 exactly over one step. For one number of state that takes two lines. The old
# state fades, and what flows in at time $s$ of the step fades for the rest of it:
#
# $$h(t + \Delta) = e^{\Delta A}\,h(t) + \int_0^{\Delta} e^{(\Delta - s)A}\,B\,x\;ds$$
#
# $$= \underbrace{e^{\Delta A}}_{\bar A}\,h(t) + \underbrace{\frac{e^{\Delta A} - 1}{A}\,B}_{\bar B}\,x .$$
#
# ![One step of a system: what is left of the state, and what the held input adds](../figures/step_of_the_system.png)
#
# With a matrix $A$ the same two lines hold, and the fraction becomes an inverse:
#
# > *Eq. 2:* $\bar A = \exp(\Delta A)$, $\quad \bar B = (\Delta A)^{-1}(\exp(\Delta A) - I)\,\Delta B$.
#
# In code, for a matrix $A$ that can be inverted:


# %%
def zoh(A, B, delta):
    A_bar = torch.linalg.matrix_exp(delta * A)
    B_bar = torch.linalg.inv(delta * A) @ (A_bar - torch.eye(len(A))) @ (delta * B)
    return A_bar, B_bar


delta = 0.3
for mine, theirs in zip(zoh(A, B, delta), discretize(A, B, delta, "zoh")):
    assert torch.allclose(mine, theirs, atol=1e-12)
print("the library's zero-order hold is the same")

# %% [markdown]
# The library takes another road, because Eq. 2 as printed needs $A^{-1}$, and a pure integrator ($A = 0$) has none.
# During a step the held input is a state too, one that does not change: $x' = 0$. Written together,
# $\begin{pmatrix}h\\ x\end{pmatrix}' = \begin{pmatrix}A & B\\ 0 & 0\end{pmatrix} \begin{pmatrix}h\\ x\end{pmatrix}$
# is a system without input. So the exponential of this block matrix times $\Delta$ says what becomes of both, and its
# upper row is $(\bar A, \bar B)$. It needs no inverse. (The cell above compared it with Eq. 2.)

# %%
A_bar, B_bar = discretize(torch.zeros(1, 1), torch.ones(1), delta)
assert A_bar.item() == 1 and abs(B_bar.item() - delta) < 1e-15
print(
    "an integrator keeps its state (Ā = 1) and adds Δ·x (B̄ = Δ):",
    A_bar.item(),
    B_bar.item(),
)

# %% [markdown]
# ## 3. The recurrence (Eq. 3)
#
# > *Eq. 3:* $h_t = \bar A\,h_{t-1} + \bar B\,x_t$, $\quad y_t = C\,h_t$.


# %%
def run(A_bar, B_bar, C, x):
    h, ys = torch.zeros(len(B_bar)), []
    for x_t in x:
        h = A_bar @ h + B_bar * x_t
        ys.append(C @ h)
    return torch.stack(ys)


t = torch.arange(0, end, delta)
x = torch.cos(omega * t)
A_bar, B_bar = discretize(A, B, delta)
y = run(A_bar, B_bar, C, x)
assert torch.allclose(y, recurrence(A_bar, B_bar, C, x), atol=1e-12)

# %% [markdown]
# Two other rules are common: *Euler*, the slope at the start of the step, $\bar A = I + \Delta A$, $\bar B = \Delta B$; and
# *bilinear*, the average of the slopes at both ends, $\bar A = (I - \tfrac{\Delta}{2} A)^{-1}(I + \tfrac{\Delta}{2} A)$,
# $\bar B = (I - \tfrac{\Delta}{2} A)^{-1} \Delta B$. Output number $t$ belongs to the end of step $t$, so the dots stand at
# $(t+1)\Delta$. (Those of the hold, `zoh`, lie under those of the bilinear rule: both are close to the curve.)

# %%
curves = {"exact": (fine, exact)} | {
    m: (t + delta, recurrence(*discretize(A, B, delta, m), C, x))
    for m in ("zoh", "euler", "bilinear")
}
plot_lines(
    curves,
    "time t",
    "output y(t)",
    looks=("-", "o", "s", "D"),
    title=f"Δ = {delta}, input cos(t)",
)

# %% [markdown]
# Euler runs away: at this step its $\bar A = I + \Delta A$ has eigenvalues outside the unit circle, so that a stable
# system has become an unstable one. Zero-order hold and the bilinear rule cannot do that: an eigenvalue $\lambda$ of $A$
# becomes $e^{\Delta\lambda}$, whose size $e^{\Delta\,\mathrm{Re}\,\lambda}$ is below 1 exactly when
# $\mathrm{Re}\,\lambda < 0$. The bilinear $(1 + \tfrac{\Delta}{2}\lambda)/(1 - \tfrac{\Delta}{2}\lambda)$ has a
# size below 1 in the same case.

# %%
for method in ("zoh", "euler", "bilinear"):
    size = torch.linalg.eigvals(discretize(A, B, delta, method)[0]).abs().max().item()
    print(
        f"{method:>8}: largest eigenvalue of Ā has size {size:.3f}"
        f"{'  > 1: unstable' if size > 1 else ''}"
    )

# %% [markdown]
# How do the errors shrink with the step? We measure against the exact answer. Two choices are mixed in practice. One
# is the rule for $\bar A$ and $\bar B$. The other is what stands for the input of a step: its first value (*held*) or
# the mean of both ends (*averaged*). So we try both inputs with both rules, and Euler beside them.


# %%
def error(method, delta, given="held"):
    steps = torch.arange(0, end, delta)
    x = torch.cos(omega * steps)
    if given == "averaged":
        x = (x + torch.cos(omega * (steps + delta))) / 2
    y = recurrence(*discretize(A, B, delta, method), C, x)
    return (y - exact_response(A, B, C, steps + delta, omega)).abs().max().item()


deltas = [0.2, 0.1, 0.05, 0.025, 0.0125]
pairs = [("euler", "held")] + [
    (m, given) for given in ("held", "averaged") for m in ("zoh", "bilinear")
]
errors = {f"{m}, {given}": [error(m, d, given) for d in deltas] for m, given in pairs}
curves = {name: (deltas, values) for name, values in errors.items()}
first = max(values[0] for values in errors.values())
for order in (1, 2):
    slope = [first * (d / deltas[0]) ** order for d in deltas]
    curves[f"slope {order}"] = (deltas, slope)
plot_lines(
    curves,
    "step length Δ",
    "largest error of y",
    looks=("o-",) * len(errors) + (":", "--"),
    log="xy",
    ticks=deltas,
    beside=True,
)

# %%
order = {
    name: torch.log2(torch.tensor(e[-2] / e[-1])).item() for name, e in errors.items()
}
for name, e in errors.items():
    print(f"{name:>18}: order {order[name]:.2f}, error {e[-1]:.1e} at Δ = {deltas[-1]}")
assert all(abs(order[name] - (2 if "averaged" in name else 1)) < 0.2 for name in order)
assert errors["zoh, averaged"][-1] < errors["bilinear, averaged"][-1]

# %% [markdown]
# The *input* decides the order. Held, halving $\Delta$ halves the error, whatever the rule; averaged, it quarters it,
# with zero-order hold somewhat ahead. (Euler's line is steeper on the right: at $\Delta = 0.2$ it is still unstable.)
# Zero-order hold is exact for inputs that really are constant over a step; a cosine is not. In a network the input *is*
# a list of numbers, so nothing is lost there. $\Delta$ is no measure of accuracy any more: it is learnt.
#
# ## 4. Δ is a knob for memory
#
# With one state, $\bar A = \exp(\Delta A)$ is a number between 0 and 1: the share of the past that survives one token.
# A small $\Delta$ means a long memory that takes in little of each token, a large one a short memory that takes in much.
# Both show in the weights that a token has in its own output and in the later ones. These weights are the system's
# *kernel*; section 5 says why. Move the sliders (in a running notebook). The axis stands still, so that you see how
# long the kernel is, and how little a small $\Delta$ takes in. A complex eigenvalue, like that of section 1, makes
# the kernel oscillate:

# %%
explorer = KernelExplorer()
explorer

# %%
curves = {}
for d in (0.03, 0.1, 0.3, 1.0):
    bars = discretize(torch.tensor([-1.0]), torch.ones(1), d)
    curves[f"Δ = {d}"] = convolution_kernel(*bars, torch.ones(1), 40)
title = "what a token contributes to later outputs (A = -1)"
plot_lines(curves, "tokens ago", "weight in the output", title=title)

# %% [markdown]
# ## 5. The convolution (Eq. 4)
#
# Unroll the recurrence: $y_t = C\bar B x_t + C\bar A\bar B x_{t-1} + C\bar A^2\bar B x_{t-2} + \dots$. The weights
# do not depend on $t$, so the whole output is one convolution.
#
# > *Eq. 4:* $\bar K = (C\bar B,\; C\bar A\bar B,\; \dots,\; C\bar A^{L-1}\bar B)$, $\quad y = x * \bar K$.
#
# The star is a *causal* convolution: $y_t = \sum_{s=0}^{t} \bar K_s\,x_{t-s}$ takes the token itself and those before
# it, never one that follows.

# %%
powers = torch.stack([torch.linalg.matrix_power(A_bar, s) for s in range(len(x))])
K = powers @ B_bar @ C
assert torch.allclose(K, convolution_kernel(A_bar, B_bar, C, len(x)), atol=1e-12)
plot_lines(
    {f"Δ = {delta}": K},
    "tokens ago",
    "weight in the output",
    levels={"": 0},
    title="the kernel of our oscillating system",
)

# %% [markdown]
# Three ways to the same output: step by step, by the definition of a convolution, and by the Fourier transform. The last
# costs $O(L \log L)$ and runs in parallel, which is why the first state-space networks (S4) were trained that way.

# %%
direct = causal_convolution(x, K, "direct")
fft = causal_convolution(x, K, "fft")
for name, other in (("direct", direct), ("fft", fft)):
    worst = (other - y).abs().max().item()
    print(f"{name:>7}: largest difference from the recurrence {worst:.1e}")
    assert worst < 1e-10

# %% [markdown]
# ## 6. What a fixed system cannot do
#
# A fixed system treats every token alike. Suppose that only some tokens matter and the system should hold the last such
# token until the next one comes. With a constant $\Delta$ it must choose: short memory or blurred memory. If $\Delta$ may
# depend on the token, the task is easy: $\Delta$ large on a marked token (forget the past, take this in), zero elsewhere
# (change nothing). That is the idea of Mamba's *selective* scan: $\Delta$, $B$ and $C$ become functions of the input.

# %%
torch.manual_seed(1)
length = 120
signal = torch.randn(length)
marks = (torch.rand(length) < 0.08).double()
fixed = recurrence(
    *discretize(torch.tensor([-1.0]), torch.ones(1), 0.1), torch.ones(1), signal
)

h, chosen = torch.zeros(()), []
for x_t, mark in zip(signal, marks):
    a, b = (
        discretize(torch.tensor([-1.0]), torch.ones(1), 20.0)
        if mark
        else (torch.ones(1), torch.zeros(1))
    )
    h = (a * h + b * x_t).squeeze()
    chosen.append(h)
selection(signal.numpy(), marks.numpy(), fixed.numpy(), torch.stack(chosen).numpy())

# %% [markdown]
# The price: the weight of token $s$ in output $t$ now depends on *what* the tokens between them are. So there is no
# single kernel $\bar K$, and no FFT. The recurrence itself remains, and making it fast is the subject of the next
# chapter. The library's scan takes a different $\Delta_t$, $B_t$, $C_t$ for every token; given constant ones it must
# fall back to what we have just built. (Its shapes are chapter 02's. Input and $\Delta$ are (batch, channels,
# length), here one of each. $A$ is (channels, n). $B$ and $C$ are (batch, n, length), so the constants are repeated
# for every token.)

# %%
a, b, c = torch.tensor([-1.0, -0.2]), torch.tensor([1.0, 0.5]), torch.tensor([0.3, 1.0])
ones = torch.ones(1, 1, length)
scanned = selective_scan(
    signal[None, None], 0.1 * ones, a[None], b[:, None] * ones, c[:, None] * ones
)
mamba_bars = discretize(a, b, 0.1, "zoh")[0], discretize(a, b, 0.1, "euler")[1]
assert torch.allclose(scanned[0, 0], recurrence(*mamba_bars, c, signal), atol=1e-12)
print("selective scan with constant parameters = Eq. 3")

# %% [markdown]
# Look closely at `mamba_bars`: the scan agrees with $\bar A$ of zero-order hold but $\bar B = \Delta B$ of *Euler*.
#
# **Where paper and code differ.** The paper prints Eq. 2 for $\bar B$; Mamba's implementation (and so the released
# LKM-UNet) computes $\Delta B$. The two agree for small $|\Delta A|$ only.
# How small is it in Mamba? At the start $A$ is $-1$ to $-16$ and $\Delta$ is 0.001 to 0.1; the reason follows below.

# %%
z = torch.logspace(-3, 1, 60)
exact_bar = discretize(-z, torch.ones_like(z), 1.0)[1]
curves = {
    "B̄ / (ΔB) by zero-order hold (Eq. 2)": (z, exact_bar),
    "B̄ / (ΔB) in Mamba": (z, torch.ones_like(z)),
    "relative difference of B̄": (z, 1 / exact_bar - 1),
}
plot_lines(curves, "|ΔA|", "ratio", log="xy")

# %%
for A_n in (-1.0, -16.0):
    for step in (0.001, 0.1):
        true = discretize(torch.tensor([A_n]), torch.ones(1), step)[1].item()
        print(
            f"A = {A_n:5.0f}, Δ = {step:5.3f}:"
            f" ΔB is {100 * (step / true - 1):6.2f} % above Eq. 2's value"
        )

# %% [markdown]
# Where do Mamba's initial values come from, $A = -1, -2, \dots, -16$ and $\Delta$ between 0.001 and 0.1? From theory
# about memory. *HiPPO* asked which matrix $A$ makes the state the best summary of the past by polynomials. S4 then
# showed that networks with that matrix learn long sequences. Its diagonal relatives work nearly as well (*S4D*). The
# simplest of them, S4D-real, keeps the diagonal of HiPPO's matrix, the numbers $-1, -2, \dots, -n$: sixteen speeds of
# forgetting, from slow to sixteen times as fast. $\Delta$ is spread over two decades, so that channels differ in how
# long they remember.
#
# At these values the difference runs from nothing to about a factor of two. It is a scale on $B$ that depends on
# $\Delta$ and $A$; a trained $B$ can absorb part of it. Nobody reports what it does to a segmentation.
#
# ## Exercises
#
# Each exercise is one cell to fill in, then a cell that checks it: shape first, then values, then hints in stages.
#
# **1. Zero-order hold of a diagonal system** (★, 5 minutes). Mamba's $A$ is diagonal, so Eq. 2 works number by number.


# %%
def discretize_diagonal(A, B, delta):
    """A, B: (n,), A without zeros; delta: a number. Returns A_bar, B_bar, both (n,)."""
    ### BEGIN SOLUTION
    A_bar = torch.exp(delta * A)
    return A_bar, (A_bar - 1) / A * B
    ### END SOLUTION


# %%
check_discretize_diagonal(discretize_diagonal)

# %% [markdown]
# **2. The scan** (★, 10 minutes). Eq. 3 for a diagonal system. In which order do update and read-out come?


# %%
def scan(A_bar, B_bar, C, x):
    """A_bar, B_bar, C: (n,); x: (length,). Returns y (length,)."""
    ### BEGIN SOLUTION
    h, ys = torch.zeros_like(B_bar), []
    for x_t in x:
        h = A_bar * h + B_bar * x_t
        ys.append((C * h).sum())
    return torch.stack(ys)
    ### END SOLUTION


# %%
check_scan(scan)

# %% [markdown]
# **3. The kernel** (★★, 10 minutes). Eq. 4 for a diagonal system, without a loop over the length if you can.


# %%
def kernel(A_bar, B_bar, C, length):
    """Returns K (length,)."""
    ### BEGIN SOLUTION
    steps = torch.arange(length)
    return (C * B_bar) @ A_bar[:, None] ** steps
    ### END SOLUTION


# %%
check_kernel(kernel)

# %% [markdown]
# **4. Half-life** (★, 5 minutes). After how many tokens has a state with decay $A$ lost half of what it held?


# %%
def half_life(A, delta):
    """A < 0 and delta > 0 are numbers. Returns a number of tokens (not rounded)."""
    ### BEGIN SOLUTION
    return math.log(2) / (-A * delta)
    ### END SOLUTION


# %%
check_half_life(half_life)

# %% [markdown]
# **5. Causal convolution from the definition** (★★, 10 minutes).


# %%
def convolve(x, kernel):
    """y_t = sum of kernel_s x_{t-s} over 0 <= s <= t.

    x: (length,), kernel: (k,) with k <= length.
    """
    ### BEGIN SOLUTION
    y = torch.zeros_like(x)
    for s, weight in enumerate(kernel):
        y[s:] += weight * x[: len(x) - s]
    return y
    ### END SOLUTION


# %%
check_causal(convolve)

# %% [markdown]
# **Open question.** Mamba's state has $n = 16$ numbers per channel, all real and decaying: no oscillating kernels like
# ours. Which shapes of $\bar K$ can sixteen decaying exponentials make, and which can they not? How would you find out
# whether a segmentation network misses them?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | recurrence, direct and FFT convolution agree to 1e-10 | Eq. 3 and Eq. 4 describe the same system | – |
# | the error falls with Δ for a held input, with Δ² for an averaged one, under either rule | uses zero-order hold | – |
# | ΔB is up to about twice Eq. 2's B̄ at Mamba's initial values | prints Eq. 2 for B̄ | whether it matters after training |
# | a fixed system cannot hold marked tokens, a selective one can | motivates Mamba by selection | how much of it segmentation needs |
#
# ## Further reading
#
# * A. Gu, K. Goel, C. Ré, [S4](https://arxiv.org/abs/2111.00396): state-space models as layers of a network, trained
#   as convolutions.
# * S. Rush, S. Karamcheti, [The Annotated S4](https://srush.github.io/annotated-s4/): the same, line by line in code.
# * A. Gu et al., [HiPPO](https://arxiv.org/abs/2008.07669) and [S4D](https://arxiv.org/abs/2206.11893): where the
#   numbers on the diagonal of $A$ come from.
# * A. Gu, T. Dao, [Mamba](https://arxiv.org/abs/2312.00752), Section 3: from fixed to selective. M. Grootendorst, [A
#   Visual Guide to Mamba](https://newsletter.maartengrootendorst.com/p/a-visual-guide-to-mamba-and-state): the same
#   in pictures.
