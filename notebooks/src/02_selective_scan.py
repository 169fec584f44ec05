# %% [markdown]
# # 02 · The selective scan: a recurrence that chooses, and how to make it fast
#
# *30 minutes to read, 60 for the exercises, one minute to run.* Before:
# [01_state_space_models](01_state_space_models.ipynb). After: [03_bidirectional_mamba](03_bidirectional_mamba.ipynb),
# or straight to [06_lkm_unet](06_lkm_unet.ipynb).
#
# **Goals.** After this chapter you can
# * write the selective scan, in the literature also S6, with $\Delta$, $B$ and $C$ of every token, in eight lines;
# * say why the convolution of chapter 01 is gone, and what stands in its place;
# * show that the recurrence is associative, and run it as a parallel prefix scan, a tree instead of a chain;
# * say what the layer called Mamba puts around the scan, and write it as a module of your own;
# * say which copying task a fixed system learns and which one takes selection, from four trainings;
# * compute how far a token is remembered, and what $\Delta$ has to do with it;
# * measure a scan, and say where its time goes.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $u_t$ | input of the scan, $d$ channels (chapter 01's $x_t$; `u` in every implementation) | (batch, d, length) |
# | $\Delta_t$ | step of every token *and* channel | (batch, d, length) |
# | $A$ | negative numbers, the only constants left; $\lvert A\rvert$ is a rate of decay | (d, n) |
# | $B_t$, $C_t$ | how token $t$ enters and is read out, shared by all channels | (batch, n, length) |
# | $h_t$ | state | (batch, d, n) |

# %%
import math
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from lkm_kit.bench.timing import medians
from lkm_kit.course import (
    check_mamba,
    check_memory_length,
    check_time_step,
    check_tree,
    keep,
)
from lkm_kit.plots.lines import MARKED, plot_dots, plot_lines
from lkm_kit.plots.maps import TOKENS, plot_maps
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.ssm import Mamba, recurrence, scan_backends, selective_scan
from lkm_kit.widgets.ssm import MemoryExplorer, SelectionExplorer

use_style()
torch.manual_seed(0)
settings = profile()
print("profile:", settings.name)

# %% [markdown]
# ## 1. From constants to functions of the input
#
# In Mamba the parameters of Eq. 3 become functions of the input (the paper's Section 2 says so in passing and refers to
# Gu and Dao, 2023).
#
# Eq. 3 with an index on everything that may now differ from token to token, for one channel; $j = 1, \dots, n$ numbers
# the entries of its state:
#
# $$h_{t,j} = e^{\Delta_t A_j}\,h_{t-1,j} + \Delta_t\,B_{t,j}\,u_t, \qquad y_t = \sum_{j=1}^{n} C_{t,j}\,h_{t,j} .$$
#
# ($\bar B = \Delta B$ is Mamba's short cut, see the end of chapter 01.) Three tokens, with all numbers:
#
# ![Three tokens through a selective scan: what is kept of the state, and what each token adds](../figures/state_update.png)
#
# Where do $\Delta_t$, $B_t$ and $C_t$ come from?
# From the token itself, by three small linear layers. Here they are, as naive as possible:


# %%
def project(u, to_delta, to_B, to_C):
    """u (b, d, l) → Δ (b, d, l) > 0; B and C (b, n, l)."""
    delta = F.softplus(torch.einsum("ed,bdl->bel", to_delta, u) - 2)  # steps around 0.1
    return (
        delta,
        torch.einsum("nd,bdl->bnl", to_B, u),
        torch.einsum("nd,bdl->bnl", to_C, u),
    )


def scan_by_hand(u, delta, A, B, C):
    h, ys = torch.zeros(*u.shape[:2], A.shape[1]), []
    for t in range(u.shape[2]):
        decay = torch.exp(delta[:, :, t, None] * A)
        h = decay * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
        ys.append((h * C[:, None, :, t]).sum(-1))
    return torch.stack(ys, dim=-1)


# %%
batch, d, length, n = 2, 8, 48, 4
u = torch.randn(batch, d, length)
A = -torch.arange(1.0, n + 1).repeat(d, 1)
delta, B, C = project(
    u, 0.3 * torch.randn(d, d), 0.3 * torch.randn(n, d), 0.3 * torch.randn(n, d)
)
y = scan_by_hand(u, delta, A, B, C)
torch.testing.assert_close(y, selective_scan(u, delta, A, B, C), atol=1e-5, rtol=1e-4)
print("by hand = the library's selective_scan,", tuple(y.shape))

# %% [markdown]
# With constants for all tokens it is Eq. 3 again, and Eq. 4 with it:

# %%
# the first token's, for all
constant = [t[..., :1].expand_as(t).contiguous() for t in (delta, B, C)]
step, b, c = constant[0][0, 0, 0], constant[1][0, :, 0], constant[2][0, :, 0]
eq3 = recurrence(torch.exp(step * A[0]), step * b, c, u[0, 0])
fixed = selective_scan(u, constant[0], A, *constant[1:])
torch.testing.assert_close(fixed[0, 0], eq3, atol=1e-5, rtol=1e-4)
print("constant Δ, B, C: equal to Eq. 3")

# %% [markdown]
# A fixed system has two properties. It *shifts*: ten empty tokens in front move the output by ten. And it is *linear*:
# the output of a sum is the sum of the outputs. Which one does selection cost? Predict before you run.


# %%
weights = [0.3 * torch.randn(m, d) for m in (d, n, n)]


def system(u):
    delta, B, C = project(u, *weights)
    return selective_scan(u, delta, A, B, C)


ten = torch.zeros(batch, d, 10)
shifted = (system(torch.cat([ten, u], -1))[..., 10:] - system(u)).abs().max().item()
other = torch.randn_like(u)
both, apart = system(u + other), system(u) + system(other)
nonlinear = ((both - apart).norm() / both.norm()).item()
print(f"ten zero tokens in front change the later outputs by {shifted:.1e}")
print(f"|f(u + v) - f(u) - f(v)| is {nonlinear:.2f} of |f(u + v)|")
assert shifted < 1e-5 and nonlinear > 0.1

# %% [markdown]
# The selective scan still shifts, exactly. It is no longer linear: the weights are made of the same tokens that they
# weigh.
#
# Play with it before you read on. Ten tokens, one state, and a slider for the $\Delta$ of each token. (Here both bars
# are those of Eq. 2, with $B = |A|$, so that a large $\Delta$ replaces the state and a small one leaves it alone.) Make
# the last output hold the third token and nothing else, then look at how the preset does it. What can the sliders of
# $A$ do that those of $\Delta$ cannot?

# %%
SelectionExplorer()

# %% [markdown]
# ## 2. Why there is no kernel any more
#
# Unrolled, what token $s$ contributes to output $t$ is
#
# $$M_{ts} = \sum_{j=1}^{n} C_{t,j}\; e^{A_j (\Delta_{s+1} + \dots + \Delta_t)}\;\Delta_s B_{s,j} , \qquad s \le t ,$$
#
# a number for each *pair*. For a fixed system it depends on $t-s$ only: a Toeplitz matrix (constant along every diagonal),
# which is a convolution. For the selective one every entry is its own. The scan multiplies by it without writing it.


# %%
def matrix(delta, A, B, C):
    """M (l, l) of one sequence and one channel: delta (l,), A (n,), B and C (n, l)."""
    elapsed = delta.cumsum(0)
    # clamp: for s > t, which tril() drops, the exponential could overflow
    decay = torch.exp(
        A[:, None, None] * (elapsed[:, None] - elapsed[None, :]).clamp(min=0)
    )
    return torch.einsum("nt,nts,ns->ts", C, decay, delta * B).tril()


selective = matrix(delta[0, 0], A[0], B[0], C[0])
torch.testing.assert_close(selective @ u[0, 0], y[0, 0], atol=1e-5, rtol=1e-4)
toeplitz = matrix(constant[0][0, 0], A[0], constant[1][0], constant[2][0])
later = torch.ones_like(selective).triu(1).bool()
plot_maps(
    {
        "fixed: Toeplitz": toeplitz.masked_fill(later, torch.nan).numpy(),
        "selective: every pair its own": selective.masked_fill(
            later, torch.nan
        ).numpy(),
    },
    "weight of s in output t",
    scale="signed log",
    **TOKENS,
)

# %% [markdown]
# The matrix is lower triangular: a token sees itself and what came before, never what follows. Images have no
# "before", and that is what chapter 03 is about. Note the size: $L^2$ entries. Self-attention computes all of them, $L^2$
# times the work of one, even where its kernel keeps only a few at a time in memory. The scan never does.
#
# ## 3. A parallel prefix scan
#
# A loop over tokens is slow on a GPU, which wants to do many things at once. But two steps in a row are again one step:
#
# $$h \mapsto a_1 h + b_1 \mapsto a_2(a_1 h + b_1) + b_2 = (a_2 a_1)\,h + (a_2 b_1 + b_2).$$
#
# This combination is *associative*, so brackets may be set at will: neighbours first, then neighbours of neighbours,
# $\log_2 L$ rounds in all.
#
# ![The same states as a chain and as a tree, for eight tokens](../figures/chain_and_tree.png)
#
# Ten lines:


# %%
def scan_as_a_tree(a, b):
    """States of h_t = a_t h_{t-1} + b_t: each round doubles the steps a token knows."""
    a, b, reach = a.clone(), b.clone(), 1
    while reach < a.shape[-1]:
        older_a, older_b = a[..., :-reach], b[..., :-reach]
        b = torch.cat(
            [b[..., :reach], a[..., reach:] * older_b + b[..., reach:]], dim=-1
        )
        a = torch.cat([a[..., :reach], a[..., reach:] * older_a], dim=-1)
        reach *= 2
    return b


# %%
a = torch.exp(delta[:, :, None] * A[..., None])  # (b, d, n, l)
b = (delta * u)[:, :, None] * B[:, None]
states = scan_as_a_tree(a, b)
torch.testing.assert_close((states * C[:, None]).sum(2), y, atol=1e-5, rtol=1e-4)
print(
    f"tree = chain, in {math.ceil(math.log2(length))} rounds instead of {length} steps"
)

# %% [markdown]
# What counts is work and depth. The loop does $L - 1$ combinations, one after the other: work and depth are both
# about $L$. The tree has a depth of only $\log_2 L$ rounds, but combines nearly all tokens in each of them: about $L
# \log_2 L$ in all. (A second kind of tree, up and down again, needs about $2L$.) A
# machine with thousands of processors pays by depth, one with a few cores by work. That is why the tree is the slower
# one here (section 4 measures it).
#
# The other price is memory. `a`, `b` and the states hold a number for every token, channel **and state**, all at
# once, where a loop needs those of one token. No input has a channel *and* a state axis. On a GPU reading and writing
# these arrays takes longer than the arithmetic. Mamba's own kernel (here: a program for the GPU, no $\bar K$)
# therefore keeps the states on the chip and never writes them. The kit does the same on a CPU.

# %%
inputs = sum(t.numel() for t in (u, delta, B, C))
print(f"inputs {inputs:,} numbers; a, b and the states {3 * a.numel():,}")
for name, reason in scan_backends().items():
    print(f"{name:>10}: {reason}")

# %% [markdown]
# ## 4. The fused kernel
#
# *Fused* means: one loop that does everything for a token before it goes on to the next. PyTorch runs one operation
# at a time and writes each result into memory, to read it again in the next one. The fused kernel reads a token's
# inputs once and writes its output once. The state in between never goes to memory (it stays in the processor's
# registers). It works on sixteen channels at once.
#
# Backward needs the states again. Keeping them all would cost what fusing has saved, so only every sixteenth is kept.
# The others are computed anew from there: gradient checkpointing, inside the kernel. The same values, the same
# gradients, as the cell checks; only time and memory differ. We measure on one thread, so that other programs disturb
# less.


# %%
def inputs_of(batch, d, length, n):
    tokens = torch.randn(batch, length, 2 * d + 2 * n).transpose(1, 2)
    u, raw, B, C = tokens.split([d, d, n, n], dim=1)
    A = -torch.arange(1.0, n + 1).repeat(d, 1)
    # softplus(-3) is about 0.05, a usual step
    leaves = [t.detach().requires_grad_() for t in (u, raw - 3, A, B, C)]
    return dict(zip(("u", "delta", "A", "B", "C"), leaves))


def tree(u, delta, A, B, C):
    delta = F.softplus(delta)
    a, b = (
        torch.exp(delta[:, :, None] * A[..., None]),
        (delta * u)[:, :, None] * B[:, None],
    )
    return (scan_as_a_tree(a, b) * C[:, None]).sum(2)


forms = {
    "fused kernel": lambda p: selective_scan(**p, delta_softplus=True),
    "torch loop": lambda p: selective_scan(
        **p, delta_softplus=True, backend="reference"
    ),
    "tree in torch": lambda p: tree(**p),
}


# %%
def gradients(form, p, weight):
    return torch.autograd.grad(form(p), list(p.values()), weight)


rows = {}
threads = torch.get_num_threads()
torch.set_num_threads(1)
for size in ((4, 32, 256, 16), (4, 64, 576, 16)):
    p = inputs_of(*size)
    weight = torch.randn(size[0], size[1], size[2])
    wanted = [forms["torch loop"](p), *gradients(forms["torch loop"], p, weight)]
    for form in forms.values():
        torch.testing.assert_close(
            [form(p), *gradients(form, p, weight)], wanted, atol=1e-3, rtol=1e-3
        )
    seconds = medians(
        {k: partial(gradients, f, p, weight) for k, f in forms.items()},
        settings.repeats,
    )
    rows[f"{size}"] = {k: 1e3 * s for k, s in seconds.items()}
torch.set_num_threads(threads)
speed = pd.DataFrame(rows).T.rename_axis("(batch, d, length, n)")
speed.round(1).add_suffix(" (ms)")

# %%
plot_dots(speed, "forward + backward (ms)", joined=True, xscale="log")

# %%
for size, row in speed.iterrows():
    loop, chain = (
        row[name] / row["fused kernel"] for name in ("torch loop", "tree in torch")
    )
    print(
        f"{size}: the loop took {loop:.0f} times as long as the fused kernel here,"
        f" the tree {chain:.0f} times"
    )

# %% [markdown]
# These numbers, and the ratios as well, depend on your machine and on what else it does while it measures. On a CPU
# the tree gains nothing: there are few processors for its rounds, and its memory traffic stays. It does seven to eight
# times the loop's combinations here. Its time need not grow as much: the loop pays for hundreds of rounds of
# calls of PyTorch, the tree for eight or ten. How much faster could
# it still get? `lkm bench scan` (in a terminal) measures larger sizes beside a lower bound, the time that the
# exponentials and multiply-adds alone would take.
#
# ## 5. Mamba: the layer around the scan
#
# The scan is the heart; **Mamba** is the layer that one puts into a network. It maps tokens to tokens of the same
# shape:
#
# ![The Mamba layer: two ways, x through convolution and scan, z as a gate](../figures/mamba_block.png)
#
# 1. A linear layer makes two vectors $x$ and $z$ of twice the width each. *Why two?* $x$ goes through the scan; $z$
# will be the gate.
# 2. A causal convolution over four tokens, channel by channel, and SiLU make $u$ of $x$. *Why?* Without it $\Delta_t$,
# $B_t$ and $C_t$ would be chosen by a single token, blind to its neighbours. It could not notice, for example, that
# it is an edge.
# 3. From $u$ come $\Delta_t$, $B_t$, $C_t$ (section 1), and the selective scan runs over it. Then $D\,u_t$, a share of
# its input, is added. *Why?* A token need not go through the state to reach its own output, so the state is free for
# what must be remembered. $D$ starts at 1.
# 4. The outcome is multiplied by $\mathrm{SiLU}(z)$, the gate, and a last linear layer projects back. *Why?* The scan
# mixes tokens, and the state has to carry everything that any output might want. With the gate a token decides which
# channels of the mixture it lets through, and it is the layer's second nonlinearity: Mamba needs no MLP behind it.
#
# In code, with the names that every implementation uses. $\Delta$ has a number for every channel. To save weights it is
# made in two steps, by way of `dt_rank` numbers (one, for 16 channels). `.mT` exchanges the last two axes. `conv1d`
# pads three zeros on *both* sides; cutting off the surplus at the end leaves a convolution that looks back only:


# %%
def mamba_by_hand(tokens, m):
    """(batch, length, channels) → same, with the weights of the Mamba ``m``."""
    x, z = m.in_proj(tokens).mT.chunk(2, dim=1)  # (batch, 2 · channels, length) each
    x = F.silu(
        m.conv1d(x)[..., : tokens.shape[1]]
    )  # padded on both sides: what lies behind the end is cut off
    narrow, B, C = m.x_proj(x.mT).split([m.dt_rank, m.d_state, m.d_state], dim=-1)
    y = (
        selective_scan(
            x, F.softplus(m.dt_proj(narrow)).mT, -torch.exp(m.A_log), B.mT, C.mT
        )
        + m.D[:, None] * x
    )
    return m.out_proj((y * F.silu(z)).mT)


with torch.no_grad():
    mamba, tokens = Mamba(8), torch.randn(2, 30, 8)
    torch.testing.assert_close(
        mamba_by_hand(tokens, mamba), mamba(tokens), atol=1e-5, rtol=1e-4
    )
print("by hand = the library's Mamba,", tuple(mamba(tokens).shape))

# %% [markdown]
# ## 6. How far a token is remembered
#
# After $k$ tokens of step $\Delta$ a state of rate $A_j$ has kept $e^{k \Delta A_j}$ of what it held. Call the $k$ at which
# $1/e$ is left its **memory length**: $1/(\Delta\,|A_j|)$ tokens. Mamba starts with $A_j = -1, \dots, -16$ and $\Delta$
# between 0.001 and 0.1 (the bias of `dt_proj` sets it; how, is exercise 4):

# %%
delta_bias = Mamba(64).dt_proj.bias.detach()
steps = F.softplus(delta_bias)
rates = torch.arange(1.0, 17.0)
print(f"Δ at the start: {steps.min():.4f} to {steps.max():.3f}")
memory = 1 / (steps[:, None] * rates)
print(
    "memory of a channel's slowest state:"
    f" {memory[:, 0].min():.0f} to {memory[:, 0].max():.0f} tokens"
)
print(
    "memory of a channel's fastest state:"
    f" {memory[:, -1].min():.1f} to {memory[:, -1].max():.0f} tokens"
)
print(f"states that reach across a 40×40 window: {(memory > 1600).float().mean():.1%}")

# %%
share = (torch.arange(len(memory)) + 0.5) / len(memory)
curves = {
    f"states with A = −{n}": (memory[:, n - 1].sort().values, share) for n in (1, 5, 16)
}
plot_lines(
    curves,
    "memory length (tokens until 1/e is left)",
    "share of channels below",
    log="x",
    at={"8×8 window": 64, "20×20": 400, "40×40": 1600},
    ylim=(0, 1),
)

# %% [markdown]
# **What this says about "large kernels".** A window of 40×40 pixels is a sequence of 1600 tokens. At the start of
# training no state remembers that far, and only the slowest ones reach past a few hundred. The window *allows* a view
# over 1600 tokens. Whether a trained $\Delta$ uses it has to be measured (chapter 11), not read off the kernel's
# size.
#
# Turn the sliders: what has to happen to $\Delta$ for the first pixel of a window to reach the last?

# %%
MemoryExplorer()

# %% [markdown]
# ## 7. Precision, and what goes wrong without it
#
# The state is a sum over thousands of steps, with decays close to 1. In 16 bits a decay of $e^{-0.001}$ is not 0.9990:

# %%
decay = math.exp(-0.001)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    kept = torch.tensor(decay, dtype=dtype).double().item()
    print(
        f"{dtype!s:>15}: Ā = {kept:.6f}; after 1600 tokens {kept**1600:.3f} is left,"
        f" should be {decay**1600:.3f}"
    )

# %% [markdown]
# bfloat16 rounds to 1: that state never forgets anything. So the library keeps the state in float32 at least, whatever goes in:

# %%
p = {k: v.detach() for k, v in inputs_of(1, 16, 1600, 16).items()}
exact = selective_scan(**{k: v.double() for k, v in p.items()}, delta_softplus=True)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    low = selective_scan(**{k: v.to(dtype) for k, v in p.items()}, delta_softplus=True)
    error = (low.double() - exact).abs().max() / exact.abs().max()
    print(
        f"inputs in {dtype!s:>15}: output {low.dtype},"
        f" largest error {error:.1e} of the largest output"
    )
    assert torch.isfinite(low).all()

# %% [markdown]
# A positive $A$, which is a negative rate of decay, would make the state *grow*, and overflow. Mamba rules that out by
# storing $\log(-A)$. A NaN in one
# token, however, stays in the state: every later token of that sequence is lost, none of the others.

# %%
grows = selective_scan(**{**p, "A": 5 * torch.ones(16, 16)}, delta_softplus=True)
print("A > 0: outputs finite?", bool(torch.isfinite(grows).all()))
poisoned = {k: v.repeat(2, 1, 1) if v.ndim == 3 else v for k, v in p.items()}
poisoned["u"][0, :, 800] = torch.nan
broken = selective_scan(**poisoned, delta_softplus=True).isnan().any(1)
print(
    "sequence 0: NaN from token",
    int(broken[0].int().argmax()),
    "on; sequence 1:",
    int(broken[1].sum()),
    "NaNs",
)
assert broken[0, 800:].all() and not broken[0, :800].any() and not broken[1].any()

# %% [markdown]
# ## Exercises
#
# **1. Mamba from blank** (★★★, 30 minutes). Write the layer of section 5 as a module of your own. With the names of
# the table the library's weights can be loaded into it. The check goes in three stages: names and shapes; the first
# values of `A_log` ($\log 1, \dots, \log n$ in every inner channel) and `D` (ones); the output with given weights.
# `inner` is twice the channels, `dt_rank` is channels / 16, rounded up.
#
# | name | kind | from → to |
# |---|---|---|
# | `in_proj` | linear, no bias | channels → 2 · inner |
# | `conv1d` | `nn.Conv1d`, `groups=inner`, padded by 3 | inner → inner, 4 tokens |
# | `x_proj` | linear, no bias | inner → dt_rank + 2 · n |
# | `dt_proj` | linear | dt_rank → inner |
# | `A_log`, `D` | `nn.Parameter` | (inner, n), (inner,) |
# | `out_proj` | linear, no bias | inner → channels |


# %%
class MyMamba(nn.Module):
    """Tokens (batch, length, channels) → same."""

    def __init__(self, channels, n=16):
        super().__init__()
        ### BEGIN SOLUTION
        inner, self.n, self.dt_rank = 2 * channels, n, math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * n, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, n + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        ### END SOLUTION

    def forward(self, tokens):
        ### BEGIN SOLUTION
        x, z = self.in_proj(tokens).mT.chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        narrow, B, C = self.x_proj(x.mT).split([self.dt_rank, self.n, self.n], dim=-1)
        delta = F.softplus(self.dt_proj(narrow)).mT
        y = (
            selective_scan(x, delta, -torch.exp(self.A_log), B.mT, C.mT)
            + self.D[:, None] * x
        )
        return self.out_proj((y * F.silu(z)).mT)
        ### END SOLUTION


# %%
check_mamba(MyMamba)

# %% [markdown]
# **Yours from now on.** `keep` writes it into `my_kit.py`, beside your chapters, once the check accepts it. Chapters
# 03 to 06 and 16 build on what you keep, and take the library's part where there is none. Running the cell again
# changes nothing; other code replaces what the file holds only with `keep(MyMamba, check_mamba, replace=True)`.

# %%
keep(MyMamba, check_mamba)

# %% [markdown]
# **What it can do.** Train it, on the task that Gu and Dao (Mamba, Section 3.1) chose to show what selection is for. Four
# data tokens, each one of eight, stand among twelve noise tokens, all alike. Four recall marks follow. At the
# $k$-th the network shall say the $k$-th data token. In *copying* the four stand in front, always; in **selective
# copying** anywhere, in order. (Their recall marks are all alike. Ours are numbered, so that no one has to count them.)


# %%
def copying(batch, selective):
    """Tokens (batch, 20): 0 to 7 data, 8 noise, 9 to 12 recall; the data (batch, 4)."""
    data, places = torch.randint(8, (batch, 4)), torch.arange(4).expand(batch, -1)
    if selective:
        places = torch.rand(batch, 16).topk(4).indices.sort().values
    context = torch.full((batch, 16), 8).scatter(1, places, data)
    return torch.cat([context, torch.arange(9, 13).expand(batch, -1)], 1), data


# %%
torch.manual_seed(0)
for selective in (False, True):
    tokens, data = copying(1, selective)
    print(*tokens[0].tolist(), "→", *data[0].tolist())

# %% [markdown]
# Your layer (the library's, if yours is not there yet) stands against the same layer with constant $\Delta$, $B$ and $C$.
# A layer in `x_proj`'s place that looks at ones instead of the token makes it such a fixed system.


# %%
class Constant(nn.Linear):
    """A linear layer that no token can change."""

    def forward(self, x):
        return super().forward(torch.ones_like(x))


make = MyMamba if check_mamba(MyMamba) else Mamba


def network(fixed):
    """Token numbers (batch, length) → a score for each of the eight, at every token."""
    layer = make(32)
    layer.load_state_dict(Mamba(32).state_dict())  # the library's, as a start
    net = nn.Sequential(nn.Embedding(13, 32), layer, nn.Linear(32, 8))
    if fixed:
        old = layer.x_proj
        layer.x_proj = Constant(old.in_features, old.out_features, bias=False)
    return net


# %% [markdown]
# Both have the same number of parameters, the same first weights but for `x_proj`'s, and get the same batches, steps and
# learning rate. Guessing is right once in eight. Predict, before you run: which of the four learn their task? Which of
# the four data tokens are hardest for one that does not?


# %%
def train(net, selective, steps):
    """Train on fresh batches; then 2000 new sequences: (2000, 4), which are right."""
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.02, total_steps=steps
    )
    for _ in range(steps):
        tokens, data = copying(32, selective)
        loss = F.cross_entropy(net(tokens)[:, -4:].mT, data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        tokens, data = copying(2000, selective)
        return net(tokens)[:, -4:].argmax(-1) == data


# %%
steps = 1200 if settings.name != "smoke" else settings.iterations
nets, rows = {}, {}
for task in ("copying", "selective copying"):
    for kind in ("selective", "fixed"):
        torch.manual_seed(0)
        nets[kind, task] = network(kind == "fixed")
        torch.manual_seed(1)  # the same batches for both
        right = train(nets[kind, task], task == "selective copying", steps)
        whole = right.all(1, keepdim=True)
        rows[task, kind] = torch.cat([right, whole], 1).double().mean(0).tolist()
answers = pd.DataFrame(rows, ["1st", "2nd", "3rd", "4th", "all four"]).T
print(f"{make.__name__}: share of right answers after {steps} steps")
answers.map("{:.1%}".format)

# %%
whole = answers["all four"].unstack()
if settings.name != "smoke":  # a few steps teach nothing
    assert (whole.loc["copying"] > 0.9).all()
    assert whole.loc["selective copying", "selective"] > 0.8
    assert whole.loc["selective copying", "fixed"] < 0.5

# %% [markdown]
# Both layers copy. So the fixed one is not weak: where a token's place says which one it is, it learns the task. It
# fails where the places are random. Its score at a recall mark $t$ is a sum over tokens $s$: a weight that depends on $t-s$
# only, times what convolution and SiLU make of tokens $s-3$ to $s$. (The gate and `out_proj` see token $t$ alone.) The
# weight cannot depend on how many data tokens came before, and that is what is asked. It is still far
# above guessing. Weights that grow with age favour the first data token, weights that fade the last one. For the two
# in between no such rule is good: see the columns of the table.
#
# What does the other one do with its freedom? Here is $\Delta$ at every token of one sequence:


# %%
def steps_at(layer, embedded):
    """Embedded tokens (batch, length, 32) → Δ (batch, length, 64)."""
    x = layer.in_proj(embedded).mT.chunk(2, dim=1)[0]
    x = F.silu(layer.conv1d(x)[..., : embedded.shape[1]])
    narrow = layer.x_proj(x.mT)[..., :2]  # dt_rank is 32 channels / 16
    return F.softplus(layer.dt_proj(narrow))


# %%
context = [8, 5, 8, 2, 8, 8, 8, 8, 8, 7, 8, 8, 8, 8, 3, 8]
tokens, at = torch.tensor([[*context, 9, 10, 11, 12]]), {}
with torch.no_grad():
    for kind in ("selective", "fixed"):
        embed, layer, _ = nets[kind, "selective copying"]
        at[kind] = steps_at(layer, embed(tokens))[0]
noise, seen = (
    at["selective"][places].mean(0) for places in ([7, 8, 13], [1, 3, 9, 14])
)
share = (noise < 0.5 * seen).double().mean()
print(
    f"Δ at noise alone is less than half of that at data in {share:.0%} of the channels"
)

# %%
plot_lines(
    {kind: delta.median(1).values for kind, delta in at.items()},
    "token",
    "median Δ of the channels",
    log="y",
    looks=MARKED,
    ticks=range(0, 20, 2),
    at={"1st": 1, "2nd": 3, "3rd": 9, "4th": 14, "recall": 16},
)

# %% [markdown]
# The fixed layer's $\Delta$ is the same everywhere. The selective one's median is smallest where the convolution sees four
# noise tokens (7, 8 and 13). In most channels the state hardly decays there, and the token hardly enters. At a data
# token and the three behind it $\Delta$ is several times as large or more. In the run shown here it peaks at the third of
# these (4, 6, 12 and 17). There the data token is the oldest one that the convolution still sees. In the time that
# $\Delta$ counts, longer noise is nearly skipped. So the data tokens stand closer together, which makes selective copying
# more like copying. Not all channels do so. With another seed, or on another machine, the drop may be much smaller:
# $B$ and $C$ can choose, too.

# %% [markdown]
# **2. Find the bug** (★★, 10 minutes). A colleague wrote the tree of section 3 without `torch.cat`. Her test was a
# running sum, $a_t = 1$, and it passed. Before you run the cell: how many of the five states are right for $a_t = 0.5$?


# %%
def tree_of_a_colleague(a, b):
    """All states of h_t = a_t h_{t-1} + b_t, from h = 0."""
    a, b, reach = a.clone(), b.clone(), 1
    while reach < a.shape[-1]:
        a[..., reach:] = a[..., reach:] * a[..., :-reach]
        b[..., reach:] = a[..., reach:] * b[..., :-reach] + b[..., reach:]
        reach *= 2
    return b


ones = torch.ones(5)
for name, decay in {"a = 1": ones, "a = 1/2": ones / 2}.items():
    hers, wanted = tree_of_a_colleague(decay, ones), scan_as_a_tree(decay, ones)
    print(f"{name:>7}: hers {hers.tolist()}\n{'':7}  want {wanted.tolist()}")

# %% [markdown]
# Write it so that it is right for any $a_t$. (It must not change what it is given.)


# %%
def mended_tree(a, b):
    """a, b (..., length) → all states of h_t = a_t h_{t-1} + b_t, from h = 0."""
    ### BEGIN SOLUTION
    a, b, reach = a.clone(), b.clone(), 1
    while reach < a.shape[-1]:
        b[..., reach:] = (
            a[..., reach:] * b[..., :-reach] + b[..., reach:]
        )  # with the a of before
        a[..., reach:] = a[..., reach:] * a[..., :-reach]
        reach *= 2
    return b
    ### END SOLUTION


# %%
check_tree(mended_tree)

# %% [markdown]
# **3. Memory length** (★★, 10 minutes). The steps now differ: after how many tokens has a state of rate $A$ fallen to
# $1/e$ or below? Count the tokens whose decay it takes; if the sequence is too short, return its length.


# %%
def memory_length(delta, A):
    """delta: (length,) steps; A < 0 a number. Returns a whole number of tokens."""
    ### BEGIN SOLUTION
    below = torch.nonzero(-A * delta.cumsum(0) >= 1)
    return int(below[0]) + 1 if len(below) else len(delta)
    ### END SOLUTION


# %%
check_memory_length(memory_length)

# %% [markdown]
# **4. A bias for a wanted step** (★★, 10 minutes). $\Delta = \mathrm{softplus}(x + b)$. Mamba wants $\Delta$ to start
# at a given value when $x = 0$. Which $b$? It must work for $\Delta = 10^{-4}$ in float32 as well:
# $\log(e^{\Delta} - 1)$ will not do.


# %%
def bias_for(delta):
    """delta: (d,) wanted steps, float32. Returns b (d,)."""
    ### BEGIN SOLUTION
    return torch.log(torch.expm1(delta))
    ### END SOLUTION


# %%
check_time_step(bias_for)

# %% [markdown]
# **Open question.** At the start no state remembers 1600 tokens, yet the paper's windows have 1600. Would you start with
# smaller steps $\Delta$? What else changes when you do? (Look at the factor in front of $B$.) Design the experiment,
# with a control, before you look at chapter 09.
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | selective scan = a matrix of $L^2$ numbers that is never written | linear cost in $L$ (Fig. 2a) | – |
# | chain, tree and fused kernel give the same values and gradients | its code calls mamba_ssm's CUDA scan | – |
# | a fixed layer learns copying, a selective one selective copying as well | chose Mamba for its selection | what of it images need |
# | at the start a channel's slowest state remembers ten to a thousand tokens | kernels of up to 40×40 = 1600 tokens | what training makes of it |
# | bfloat16 decays round to 1; the state needs float32 | fp16 outside, float32 inside Mamba (code) | – |
#
# ## Further reading
#
# * A. Gu, T. Dao, [Mamba](https://arxiv.org/abs/2312.00752): the two copying tasks (Section 3.1; trained at length
#   4096 in 4.1.1), selection (3.2), the fused kernel (3.3), the layer (3.4); [its code](https://github.com/state-spaces/mamba).
# * J. Smith, A. Warrington, S. Linderman, [S5](https://arxiv.org/abs/2208.04933): the parallel scan as a way to train
#   state-space models. G. Blelloch, [Prefix sums and their
#   applications](https://www.cs.cmu.edu/~guyb/papers/Ble93.pdf): work and depth.
# * T. Dao, A. Gu, [Transformers are SSMs](https://arxiv.org/abs/2405.21060): the matrix of section 2, taken
#   seriously.
# * J. Ma, [mamba-minimal](https://github.com/johnma2006/mamba-minimal): the layer in one readable file.
