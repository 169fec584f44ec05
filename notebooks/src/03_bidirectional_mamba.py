# %% [markdown]
# # 03 · Bidirectional Mamba: who hears whom
#
# *25 minutes to read, 45 for the exercises, under a minute to run.* Before: [02_selective_scan](02_selective_scan.ipynb).
# After: [04_pixel_level_ssm](04_pixel_level_ssm.ipynb).
#
# **Goals.** After this chapter you can
# * measure how strongly one output of a layer depends on each of its inputs, and read that as a matrix;
# * say what reaches the last token of a forward scan, at the start of training and after it;
# * write BiM, and say what its *two* Mambas can do that one Mamba, read twice, cannot;
# * test the claim that with both directions the centre of a window is read as well as its ends.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $x_s$, $y_t$ | token that is read, token that is written | (channels,) |
# | $I_{ts}$ | Jacobian norm: effect of token $s$ on output $t$ | (length, length) |
# | $\mathrm{rev}$ | the same tokens from the last to the first | – |
#
# **The paper's claim** (Section 3.2, Fig. 2; in our words). A scan in one direction forgets what it read long ago, and
# what an image holds in its centre with it. So BiM scans forward and backward and adds the two outputs: the centre is
# not forgotten, and the order in which pixels are read matters less. In Table 3, BiM adds 0.08 DSC to PiM, 0.51 to PaM
# and 0.25 to both together.

# %%
from functools import partial

import pandas as pd
import torch
from torch import nn

from lkm_kit.blocks import BiM
from lkm_kit.course import (
    check_already_read,
    check_bim,
    check_bim_test,
    check_heard_pairs,
    keep,
    kept,
)
from lkm_kit.plots.lines import plot_lines
from lkm_kit.plots.maps import TOKENS, plot_maps
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.ssm import Mamba

use_style()
torch.set_num_threads(
    1
)  # sequences this short lose more by sharing work than they gain
settings = profile()
channels, side = 8, 6  # a window of 6×6 pixels is a sequence of 36 tokens
print("profile:", settings.name)

# %% [markdown]
# ## 1. An instrument: the Jacobian norm
#
# Wiggle one number of token $s$: how much does output $t$ move? For a small wiggle that is a derivative. A token has
# many channels, so the answer is a small matrix of derivatives, the *Jacobian* of output $t$ with respect to token
# $s$. Its norm (root of the sum of squares) is a number; the code calls it `influence`:
#
# $$I_{ts} = \Bigl\lVert \frac{\partial y_t}{\partial x_s} \Bigr\rVert .$$
#
# Naive, and good enough for this chapter: one backward pass for every channel of the output.


# %%
def influence_on(layer, tokens, t):
    """Jacobian norm of output t by token: tokens (length, channels) → (length,)."""
    tokens = tokens.clone().requires_grad_()
    output = layer(tokens[None])[0, t]
    rows = [
        torch.autograd.grad(value, tokens, retain_graph=True)[0] for value in output
    ]
    return torch.stack(rows).square().sum((0, 2)).sqrt()


def influence(layer, tokens):
    """The whole matrix: a row per output, a column per token."""
    return torch.stack([influence_on(layer, tokens, t) for t in range(len(tokens))])


# %% [markdown]
# An instrument is tried on something known first. In $h_t = a\,h_{t-1} + x_t$, $y_t = h_t$, what is left of token $s$ in
# output $t$ is $a^{t-s}$, and nothing for $s > t$:


# %%
def leaky_sum(x, a=0.8):
    """(batch, length, channels): a sum of the tokens so far, the older the fainter."""
    h, ys = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        h = a * h + x[:, t]
        ys.append(h)
    return torch.stack(ys, dim=1)


t, s = torch.arange(12)[:, None], torch.arange(12)
torch.testing.assert_close(
    influence(leaky_sum, torch.randn(12, 1)),
    torch.where(t >= s, 0.8 ** (t - s).abs(), 0.0),
)
print("the instrument reads what the formula says")

# %% [markdown]
# ## 2. What reaches the last token
#
# Now a Mamba as it comes from initialisation, and a longer sequence: a window of 10×10 pixels. Only the last output is
# asked. One network's weights are one random draw, so we take the root mean square over eight networks.


# %%
def averaged(make_layer, length, measure, networks=8):
    """Root mean square of ``measure(layer, tokens)`` over networks."""
    squares = []
    for seed in range(networks):
        torch.manual_seed(seed)
        squares.append(measure(make_layer(), torch.randn(length, channels)).square())
    return torch.stack(squares).mean(0).sqrt()


# BiM is the layer of section 3; in one direction it is LayerNorm and one Mamba
one_way = partial(BiM, channels, bidirectional=False)


def scan_without_skip():
    layer = one_way()
    layer.mamba_forward.D.data.zero_()
    return layer


makes = {
    "a Mamba at the start of training": one_way,
    "the same with D = 0": scan_without_skip,
}
ask_last = partial(influence_on, t=99)
reached = {
    name: averaged(make, 100, ask_last).flip(0) for name, make in makes.items()
}  # from "0 tokens ago" on
last, scan_alone = reached.values()
plot_lines(
    reached,
    "tokens ago",
    "Jacobian norm on the last output",
    log="y",
    at={"← convolution | scan alone →": 3.5},
)

# %%
for ago in (0, 3, 4, 20, 99):
    print(f"{ago:3d} tokens ago: {last[ago]:.1e}; with D = 0: {scan_alone[ago]:.1e}")
print(
    f"from 3 to 4 tokens ago: {last[3] / last[4]:.0f} times less;"
    f" with D = 0: {scan_alone[3] / scan_alone[4]:.1f} times"
)
print(f"from 4 to 99 tokens ago: {last[4] / last[99]:.0f} times less")
assert last[4] < last[3] / 100 and scan_alone[4] > scan_alone[3] / 20

# %% [markdown]
# Mamba has a causal convolution in front of its scan, with four weights (`d_conv=4`), called *taps*. Beyond three
# tokens back the Jacobian norm falls off a cliff: at the start a Mamba is, to a good approximation, a convolution over
# four tokens. The cliff is the work of the skip $D$, which starts at 1 and hands the convolution's output past the
# scan. Without it ($D = 0$) there is only a step. It is left because the last output's $C$, which multiplies the whole
# state, is computed from the convolution of the last four tokens. What comes through the state is weak from the first
# token on: it is multiplied by $\Delta\,B\,C$, and $\Delta$ is small at the start. It then fades slowly, as chapter 02
# computed from $\Delta$ and $A$. So little is *forgotten* at the start: most is hardly taken in. What matters is what
# training makes of it; section 5 trains.
#
# ## 3. Forward and backward
#
# > *Paper, Section 3.2, Fig. 2 (in our words):* the sequence is scanned forward and backward, and the outputs are added.
#
# *Why both?* A forward scan cannot know what comes later, and in an image nothing is later. Together the two
# directions see the whole window:
#
# ![What one output depends on: forward, backward, and with both](../figures/two_directions.png)
#
# The paper's text ends there. The released code has two Mambas with weights of their own, and one output projection
# on the sum. (`mix` is a Mamba without its output projection: steps 1 to 3 of chapter 02, section 5, and the gate.)
# As naive as possible: flip the tokens, scan forward, flip the result back. The library scans backward in place,
# without making flipped copies:


# %%
def bim_by_hand(tokens, bim):
    """(batch, length, channels) → same, with the weights of ``bim``."""
    normed = bim.norm(tokens)
    forward = bim.mamba_forward.mix(normed)
    backward = bim.mamba_backward.mix(normed.flip(1)).flip(1)
    return bim.out_proj(forward + backward)


# %%
torch.manual_seed(0)
bim, tokens = BiM(channels), torch.randn(2, 30, channels)
torch.testing.assert_close(bim(tokens), bim_by_hand(tokens, bim), atol=1e-5, rtol=1e-4)
print("by hand = the library's BiM,", tuple(bim(tokens).shape))

# %% [markdown]
# Adding first and projecting once is not an approximation: a projection without bias is linear, so $W(f+b) = Wf + Wb$.
# What the code gives up is a *second* $W$ for the backward direction. Here is the obvious alternative, **one Mamba, read
# twice**: the same weights in both directions.


# %%
class OneMambaTwice(nn.Module):
    """LayerNorm, one Mamba over the tokens both ways, one projection of the sum."""

    def __init__(self, channels):
        super().__init__()
        self.bim = BiM(channels, bidirectional=False)

    def forward(self, tokens):
        normed, mamba = self.bim.norm(tokens), self.bim.mamba_forward
        return self.bim.out_proj(mamba.mix(normed) + mamba.mix(normed, reverse=True))


# %%
forms = {
    "forward only": one_way,
    "one Mamba, twice": partial(OneMambaTwice, channels),
    "BiM": partial(BiM, channels),
}
pd.DataFrame(
    {
        name: [sum(p.numel() for p in make().parameters())]
        for name, make in forms.items()
    },
    index=["parameters"],
)

# %% [markdown]
# Their Jacobian norms, for the 36 tokens of a 6×6 window (row: output, column: token; bright is strong):

# %%
matrices = {
    name: averaged(make, side * side, influence, networks=6)
    for name, make in forms.items()
}
shown = {name: matrix.numpy() for name, matrix in matrices.items()}
plot_maps(shown, "Jacobian norm, s to t", scale="log", **TOKENS)

# %% [markdown]
# A forward scan is blind on one side of the diagonal. With both directions every output depends on every token, in BiM
# and in the shared form alike. So why two Mambas?
#
# ## 4. Where two Mambas differ from one, read twice
#
# Feed the reversed sequence. The shared form does the same two scans, only their roles are exchanged: out comes the
# reversed output, $f(\mathrm{rev}\,x) = \mathrm{rev}\,f(x)$, whatever the weights. BiM has no such symmetry.

# %%
torch.manual_seed(0)
x = torch.randn(4, side * side, channels)
with torch.no_grad():
    for name, make in forms.items():
        layer = make()
        gap = (layer(x.flip(1)) - layer(x).flip(1)).norm() / layer(x).norm()
        print(f"{name:>16}: reversed input, output changed by {gap:.2e} (relative)")
        assert (gap < 1e-5) == (name == "one Mamba, twice")

# %% [markdown]
# A symmetry costs something: a layer that cannot tell a sequence from its mirror image cannot tell left from right. (One
# layer, that is: any asymmetric layer beside it, a single convolution, breaks the symmetry.) Take a task with one marked
# token, where every token shall say on which side of it the mark lies: $+1$ if the mark comes later in
# the sequence, $-1$ if it came earlier.
# Reversing the sequence changes the sign of all answers, but the shared form must give the *same* numbers in
# reversed order. Say it gives the number $f$ for a token where the answer is $+1$. In the mirrored sequence the same
# token stands at the mirrored place, gets the same $f$, and there the answer is $-1$. On average over the two the error
# is $\tfrac12\bigl((f-1)^2 + (f+1)^2\bigr) \ge 1$: it cannot do better than to know nothing.
#
# In an abdomen the task is real: a kidney left of the spine and a kidney right of it are two labels.
#
# ## 5. What training makes of it
#
# Two tasks on windows of 6×6 tokens, each solvable in principle by some of the three forms:
#
# * **side of the mark**, as above; the mark's own token should say 0;
# * **all tokens count**: every token shall give the sum of all 36 inputs (scaled to variance 1). No token may be
#   forgotten, in the centre or elsewhere. A forward scan at place $t$ has not seen the last $35-t$ tokens. Their
#   share, $(35-t)/36$ of the variance, is an error that no forward scan can avoid.


# %%
def batch_of(task, batch, length=side * side):
    """Tokens (batch, length, 2), a number and a mark; what every token should say."""
    values, marks, place = (
        torch.randn(batch, length),
        torch.zeros(batch, length),
        torch.randint(length, (batch, 1)),
    )
    if task == "all tokens count":
        return torch.stack([values, marks], -1), values.sum(1, keepdim=True).expand(
            -1, length
        ) / length**0.5
    marks.scatter_(1, place, 1.0)
    return torch.stack([values, marks], -1), torch.sign(
        place - torch.arange(length)
    ).float()


# %%
def train(make, task, steps):
    """A linear, a sequence, a linear layer; and the error at every place."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, channels), make(), nn.Linear(channels, 1))
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.02, total_steps=steps
    )
    for _ in range(steps):
        tokens, wanted = batch_of(task, 32)
        loss = (network(tokens)[..., 0] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    tokens, wanted = batch_of(task, 1024)
    with torch.no_grad():
        return network, (network(tokens)[..., 0] - wanted).square().mean(0)


# %%
tasks = ("all tokens count", "side of the mark")
steps = min(400, settings.iterations)
trained = {
    task: {name: train(make, task, steps) for name, make in forms.items()}
    for task in tasks
}
errors = {
    task: {name: error.numpy() for name, (_, error) in trained[task].items()}
    for task in tasks
}
length = side * side
unseen = (length - 1 - torch.arange(length)) / length
shown = {task: dict(errors[task]) for task in tasks}
shown["all tokens count"]["best possible forward"] = unseen
plot_lines(
    shown,
    "place of the token in the sequence",
    "mean squared error\n(1: knows nothing)",
    looks=(*"ox+^"[: len(forms)], "--"),
    size=(9.0, 3.2),
    ylim=(-0.05, None),
)

# %%
table = pd.DataFrame(
    {
        task: {name: error.mean() for name, error in errors[task].items()}
        for task in tasks
    }
)
if settings.name != "smoke":  # six steps teach nothing
    assert (
        table.loc["BiM"].max() < 0.15
        and table.loc["one Mamba, twice", "side of the mark"] > 0.95
    )
    assert table.loc["forward only", "all tokens count"] > 0.9 * unseen.mean()
table.round(3).rename_axis("mean squared error (1: knows nothing)")

# %% [markdown]
# The forward scan follows the bound: it does what can be done, and the first token of a window knows next to nothing.
# It solves the *side* task, though, for a reason worth finding (open question). The shared form adds everything up well
# and fails on the side task, as proved. Its error is $35/36 = 0.972$, all of the variance (the mark's own token, one
# in 36, is right with 0). Its crosses tilt because a small constant in every answer gains at one end what it loses at
# the other. BiM does both.
#
# And forgetting? Ask the trained forward scan once more what reaches its last token:

# %%
network = trained["all tokens count"]["forward only"][0]
windows = batch_of("all tokens count", 3)[0]
learnt = torch.stack(
    [influence_on(network, window, length - 1).flip(0) for window in windows]
).mean(0)
curves = {
    "at the start": last[:length] / last[0],
    "trained: all tokens count": learnt / learnt[0],
}
relative = "Jacobian norm of the last output,\nrelative to its own token"
plot_lines(curves, "tokens ago", relative, log="y")

# %% [markdown]
# Flat: all 36 tokens are taken in and kept once the task asks for it. The weak memory is no property of the scan, it is
# where the scan starts. (Six times six is a small window. Whether it also learns 40×40 is another question, see chapter
# 02.)
#
# ## 6. Is the centre heard, or the corner?
#
# Now the claim about the centre. Read the matrix of Jacobian norms by **columns**: how much do all *other* outputs take
# from token $s$, $\sum_{t \ne s} I_{ts}$? Put back into the window, this is a map of who is heard. First the networks
# that learnt to count all tokens: here every pixel is needed, and needed equally. (The assertions below, as
# elsewhere, are part of the text. They state the result that the next paragraph explains, and fail if a rerun does
# not show it.)


# %%
def heard_map(layer, tokens):
    """(side, side): how much the other outputs take from each pixel, on average."""
    matrix = influence(layer, tokens)
    matrix.fill_diagonal_(0)
    return matrix.sum(0).reshape(side, side) / (len(tokens) - 1)


heard = {
    name: torch.stack([heard_map(network, window) for window in windows]).mean(0)
    for name, (network, _) in trained["all tokens count"].items()
}
plot_maps(
    {name: values.numpy() for name, values in heard.items()},
    "Jacobian norm of another output",
    numbers=".2f",
)


# %%
def at_places(values):
    """Mean over the four central pixels, and the four corners, of a map."""
    middle = slice(side // 2 - 1, side // 2 + 1)
    corners = {"first corner": values[0, 0], "last corner": values[-1, -1]}
    return {
        "centre": values[middle, middle].mean(),
        **corners,
        "upper right": values[0, -1],
        "lower left": values[-1, 0],
    }


places = pd.DataFrame(
    {name: at_places(values) for name, values in heard.items()}
).T.astype(float)
if settings.name != "smoke":
    assert (
        places.loc["forward only", "last corner"] == 0
        and places.loc["forward only", "first corner"] > 0.1
    )
    assert places.loc["BiM", "centre"] > 1.5 * places.loc["forward only", "centre"]
places.round(3)

# %% [markdown]
# *Forward only:* the Jacobian norm falls along the sequence, from the first corner, which all others hear, to the last,
# which nobody does. The centre is in the middle of the queue, not forgotten. *BiM:* the window is nearly flat. So the
# direction of the claim holds where a task needs all pixels: with both directions the centre gains on the corner
# that was first. But note what the gain is made of. The forward scan did not *forget* its first tokens in 36 steps; it
# could not *see* the last ones.
#
# And at the start of training? The matrices of section 3, read by columns:

# %%
fresh = {
    name: (m.sum(0) - m.diagonal()).reshape(side, side) for name, m in matrices.items()
}  # those of section 3
start = pd.DataFrame(
    {name: at_places(values) for name, values in fresh.items()}
).T.astype(float)
start.div(start["centre"], axis=0).round(2).rename_axis("relative to the centre")

# %% [markdown]
# At the start, the convolution of four taps is nearly all there is. So a token is heard by its next three neighbours, and
# with BiM by three on each side. Only tokens within three steps of an end are heard less. For BiM these are the two
# corners where the sequence begins and ends, at about half of the centre. The other two corners lie inside the
# sequence and are heard roughly like the centre. Centre against corner is therefore a statement about the ends of the
# *sequence*: the image has four corners, and the sequence two ends.
#
# ## 7. Does the order matter less?
#
# Read the window column by column instead of row by row, and put the outputs back: how much does the result change?

# %%
by_columns = torch.arange(length).reshape(side, side).T.flatten()


def change_of_order(layer, tokens, order):
    """Relative change of the output when tokens are read in ``order`` and put back."""
    back = torch.argsort(order)
    with torch.no_grad():
        return float(
            (layer(tokens[:, order])[:, back] - layer(tokens)).norm()
            / layer(tokens).norm()
        )


orders = {
    "backward": torch.arange(length).flip(0),
    "by columns": by_columns,
    "shuffled": torch.randperm(length),
}
rows = {}
for name, make in forms.items():
    torch.manual_seed(0)
    rows["at the start", name] = {
        k: change_of_order(make(), x, order) for k, order in orders.items()
    }
    network, tokens = (
        trained["all tokens count"][name][0],
        batch_of("all tokens count", 64)[0],
    )
    rows["trained: all tokens count", name] = {
        k: change_of_order(network, tokens, order) for k, order in orders.items()
    }
pd.DataFrame(rows).T.sort_index().round(2)

# %% [markdown]
# "Less" is right, "not" would be wrong. A BiM that learnt a task without any order is nearly free of it. A fresh one
# is not, because its four taps take the neighbours in the sequence for neighbours. Which pixels these are is decided
# by the token order, the subject of [chapter 04](04_pixel_level_ssm.ipynb).
#
# ## Exercises
#
# **1. BiM out of your own Mamba** (★★, 15 minutes). Section 3 borrowed the layers of a BiM. Now build one, out of two
# Mambas of your own from chapter 02 (the library's, if you kept none). Yours ends in an output projection, which BiM
# wants only once, on the sum: `nn.Identity()` in the place of a layer hands on what it gets, here tokens of twice the
# channels. The names are `norm`, `mamba_forward`, `mamba_backward` and `out_proj`.

# %%
MyMamba = kept("MyMamba", Mamba)


# %%
class MyBiM(nn.Module):
    """Tokens (batch, length, channels) → same."""

    def __init__(self, channels):
        super().__init__()
        ### BEGIN SOLUTION
        self.norm = nn.LayerNorm(channels)
        self.mamba_forward, self.mamba_backward = MyMamba(channels), MyMamba(channels)
        self.mamba_forward.out_proj = self.mamba_backward.out_proj = nn.Identity()
        self.out_proj = nn.Linear(2 * channels, channels, bias=False)
        ### END SOLUTION

    def forward(self, tokens):
        ### BEGIN SOLUTION
        tokens = self.norm(tokens)
        backward = self.mamba_backward(tokens.flip(1)).flip(1)
        return self.out_proj(self.mamba_forward(tokens) + backward)
        ### END SOLUTION


# %%
check_bim(MyBiM)

# %%
keep(MyBiM, check_bim)

# %% [markdown]
# **2. What has been read?** (★, 5 minutes). A window is read row by row. Which pixels can the output at `(row, column)`
# depend on, if the scan is forward only?


# %%
def already_read(side, row, column):
    """Boolean (side, side): True where the scan has been, its own pixel included."""
    ### BEGIN SOLUTION
    return (torch.arange(side * side) <= row * side + column).reshape(side, side)
    ### END SOLUTION


# %%
check_already_read(already_read)

# %% [markdown]
# **3. Predict, then run** (★★, 10 minutes). For $n$ tokens there are $n^2$ pairs of an output and a token. In how many
# of them does the token have *any* effect on the output? Four layers: one forward scan; two forward scans, one behind
# the other; a forward scan and behind it a backward one; BiM.


# %%
def heard_pairs(n):
    """Four whole numbers: forward; forward, forward; forward, then backward; BiM."""
    ### BEGIN SOLUTION
    triangle = n * (n + 1) // 2
    return triangle, triangle, n * n, n * n
    ### END SOLUTION


# %%
check_heard_pairs(heard_pairs)

# %% [markdown]
# And measured, with the instrument of section 1:

# %%
one, other = one_way(), one_way()
layers = {
    "forward": one,
    "forward, forward": nn.Sequential(one, other),
    "forward, then backward": lambda tokens: other(one(tokens).flip(1)).flip(1),
    "BiM": BiM(channels),
}
for name, layer in layers.items():
    pairs = int((influence(layer, torch.randn(9, channels)) > 0).sum())
    print(f"{name:>22}: {pairs} of 81 pairs")

# %% [markdown]
# So one scan forward and *then* one backward connect all tokens as well. BiM needs no second layer for it, and neither
# of its directions reads what the other one has already mixed.
#
# **4. A test for BiM** (★★★, 15 minutes). A colleague's BiM has the right parts and the right shapes. There is a slip
# in its `forward`: answers not turned back, tokens turned over the wrong axis, or a Mamba that reads the wrong
# tokens. Write a test that tells a right layer from a wrong one. You get a copy of the layer, so you may change its
# weights. What must a BiM do with a reversed sequence when both its Mambas have the same weights? (Section 4 has the
# answer.)


# %%
def put_together_rightly(bim):
    """bim has norm, mamba_forward, mamba_backward, out_proj, channels. → bool"""
    ### BEGIN SOLUTION
    bim.mamba_backward.load_state_dict(bim.mamba_forward.state_dict())
    tokens = torch.randn(2, 9, bim.channels)
    return torch.allclose(bim(tokens.flip(1)), bim(tokens).flip(1), atol=1e-4)
    ### END SOLUTION


# %%
check_bim_test(put_together_rightly)

# %% [markdown]
# **Open question.** The forward scan solved the side task although it never sees a mark that lies ahead. How? Change the
# task by one detail so that it no longer can, and say which of the three forms should then fail. How would you find out
# whether a segmentation network relies on the same shortcut?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | at the start a Mamba is nearly a convolution of four taps; behind them the Jacobian norm is some hundred times smaller | a scan forgets what it read long ago | how far the scans of a *trained* LKM-UNet reach (chapter 11) |
# | trained for it, a forward scan forgets nothing in 36 tokens; it cannot *see* what comes later. With two directions all tokens are heard nearly equally | BiM keeps the centre from being forgotten | whether organs need it: Table 3's gain from BiM is 0.08 to 0.51 DSC, one number each |
# | a sequence has two ends and a window four corners: only the two at the ends are heard less | – | – |
# | reading order matters less to a BiM that learnt a task without order; to a fresh one it matters much | order matters less | which order would be best |
# | one Mamba, read twice, has half the scan weights and, as a single layer, cannot tell the sides apart (a symmetry) | does not say which form it means; the code has two Mambas | what the shared form would score |
#
# ## Further reading
#
# * L. Zhu et al., [Vision Mamba](https://arxiv.org/abs/2401.09417): two directions over an image's patches, each
#   with a scan of its own, between projections that they share.
# * Y. Liu et al., [VMamba](https://arxiv.org/abs/2401.10166): four directions, and effective receptive fields of
#   Mamba before and after training.
# * A. Ali, I. Zimerman, L. Wolf, [The Hidden Attention of Mamba Models](https://arxiv.org/abs/2403.01590): which
#   token a trained Mamba listens to.
# * W. Luo et al., [Understanding the Effective Receptive Field](https://arxiv.org/abs/1701.04128): derivatives as an
#   instrument, on images.
