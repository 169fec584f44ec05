"""Drawings of chapters 01 and 02: a step of the system, three steps of the scan, chain and tree, the Mamba block."""

from __future__ import annotations

import math

import numpy as np

from lkm_kit.figures.built import Built
from lkm_kit.figures.drawings import Sheet, signed
from lkm_kit.figures.theme import LIGHT, Theme


def step_of_the_system(theme: Theme = LIGHT) -> Built:
    """One step of a continuous system: what is left of the state, and what the held input adds (Eq. 2)."""
    import torch

    from lkm_kit.ssm import discretize

    a, b, delta, h, x = -1.0, 1.0, 0.8, 1.0, 0.6
    a_bar, b_bar = (v.item() for v in discretize(torch.tensor([a]).double(), torch.tensor([b]).double(), delta))
    page = Sheet(3.3, theme)
    left, right, low, high = 0.95, 4.75, 0.5, 2.7

    def place(t, value):
        return left + (right - left) * t / delta, low + (high - low) * value / 1.1

    t = np.linspace(0, delta, 100)
    kept, added = h * np.exp(a * t), (np.exp(a * t) - 1) / a * b * x
    across = place(t, 0)[0]
    page.ax.fill_between(across, low, place(0, kept)[1], color=theme.tint(theme.blue, 0.25))
    page.ax.fill_between(across, place(0, kept)[1], place(0, kept + added)[1], color=theme.tint(theme.orange, 0.45))
    page.ax.plot(across, place(0, kept + added)[1], color=theme.ink, linewidth=2)
    page.ax.plot(across, place(0, kept)[1], color=theme.blue, linewidth=1.5, linestyle="--")
    page.arrow((left, low), (right + 0.35, low))
    page.arrow((left, low), (left, high + 0.3))
    page.say((left, low - 0.22), "t")
    page.say((right, low - 0.22), "t + Δ")
    page.say((left - 0.1, place(0, h)[1]), f"h(t) = {h:g}", ha="right")
    page.say(place(delta * 0.47, 0.32), "what is left of h(t)", theme.ink)
    page.say(place(delta * 0.745, 0.69), "what x adds", theme.ink)
    end = place(0, a_bar * h)[1], place(0, a_bar * h + b_bar * x)[1]
    for bottom, top, color in ((low, end[0], theme.blue), (*end, theme.brown)):
        span = {"arrowstyle": "<|-|>", "mutation_scale": 9}
        page.arrow((right + 0.12, bottom + 0.03), (right + 0.12, top - 0.03), color, **span)
    words = right + 0.27
    page.say((words, (low + end[0]) / 2), f"$\\bar A\\,h = e^{{\\Delta A}} h$ = {a_bar * h:.2f}", theme.blue, ha="left")
    page.say((words, sum(end) / 2), f"$\\bar B\\,x$ = {b_bar:.2f} · {x:g} = {b_bar * x:.2f}", theme.brown, ha="left")
    page.say((words, end[1] + 0.22), f"h(t + Δ) = {a_bar * h + b_bar * x:.2f}", theme.ink, ha="left", weight="bold")
    title = f"one step: A = {signed(a)}, B = {b:g}, Δ = {delta:g}; the input is held at x = {x:g}"
    page.say((3.75, 3.1), title, theme.ink)
    text = (
        "Zero-order hold, one number of state: during a step the old state fades by exp(ΔA) and the held input flows "
        "in. What is left and what was added is Eq. 2."
    )
    return Built(page.figure, text, {"A": a, "B": b, "delta": delta, "h": h, "x": x})


def state_update(theme: Theme = LIGHT) -> Built:
    """Three tokens through a selective scan, every number written down."""
    import torch

    from lkm_kit.ssm import selective_scan

    u, delta, a = [1.0, 0.5, 2.0], [0.7, 0.1, 1.5], -1.0
    ones = torch.ones(1, 1, 3).double()
    as_tokens = [torch.tensor([[v]]).double() for v in (u, delta)]
    ys = selective_scan(*as_tokens, torch.tensor([[a]]).double(), ones, ones, backend="reference")[0, 0].tolist()
    page = Sheet(4.15, theme)
    xs, y_token, y_state, y_out, h = (2.4, 4.5, 6.55), 3.3, 1.75, 0.4, 0.0
    page.box((0.65, y_state), (0.85, 0.6), "state\nh = 0", theme.grey)
    what = ("takes in a lot", "hardly counts", "forgets, takes in more")
    for t, (x, tokens) in enumerate(zip(xs, zip(u, delta)), start=1):
        value, step = tokens
        keep, add = math.exp(step * a), step * value
        h = keep * h + add
        assert abs(h - ys[t - 1]) < 1e-6  # B = C = 1: the state is what the library's scan gives
        page.box((x, y_token), (1.75, 0.62), f"token {t}: u = {value:g}\nstep Δ = {step:g}", theme.green)
        page.say((x, y_token + 0.5), what[t - 1], theme.green)
        page.box((x, y_state), (0.95, 0.6), f"state\nh = {h:.2f}", theme.blue)
        page.box((x, y_out), (1.35, 0.45), f"output y = {ys[t - 1]:.2f}", theme.orange)
        page.arrow((x, y_token - 0.33), (x, y_state + 0.32), theme.green)
        page.say((x + 0.08, (y_token + y_state) / 2), f"+ Δ·B·u\n= {add:.2f}", theme.green, ha="left")
        start = xs[t - 2] + 0.5 if t > 1 else 1.1
        page.arrow((start, y_state), (x - 0.5, y_state), theme.blue)
        middle = (start + x - 0.5) / 2
        page.say((middle, y_state + 0.2), f"× {keep:.2f}", theme.blue)
        page.say((middle, y_state - 0.22), f"$e^{{{step:g}\\,A}}$", theme.blue)
        page.arrow((x, y_state - 0.32), (x, y_out + 0.25), theme.orange)
        page.say((x + 0.08, (y_state + y_out) / 2 - 0.03), "· C", theme.brown, ha="left")
    page.say((0.65, 0.95), f"A = {signed(a)}\nB = C = 1", theme.grey)
    text = (
        "Three tokens of a selective scan with one number of state. The step Δ of a token says how much of the past "
        "survives it, and how much of the token enters."
    )
    return Built(page.figure, text, {"u": u, "delta": delta, "A": a, "B": 1, "C": 1})


def chain_and_tree(theme: Theme = LIGHT) -> Built:
    """The scan as a chain and as a parallel prefix scan: work and depth for eight tokens."""
    length = 8
    page = Sheet(4.0, theme)
    step, left, right, low = 0.4, 0.65, 3.95, 1.05
    for t in range(length):
        x = left + t * step
        page.ax.plot(x, low, "o", color=theme.blue, markersize=9)
        page.ax.plot(x, low + 0.3 * t + 0.3, "o", color=theme.orange, markersize=9)
        page.arrow(
            (x, low + 0.1), (x, low + 0.3 * t + 0.19), theme.tint(theme.grey, 0.5), linewidth=0.8, mutation_scale=7
        )
        if t:
            page.arrow((x - step + 0.08, low + 0.3 * t + 0.05), (x - 0.08, low + 0.3 * t + 0.24), theme.orange)
    rounds, reach, work = 0, 1, 0
    known = [{t} for t in range(length)]
    for t in range(length):
        page.ax.plot(right + t * step, low, "o", color=theme.blue, markersize=9)
    while reach < length:
        y = low + 0.72 * rounds
        for t in range(length):
            x, done = right + t * step, t >= reach
            page.arrow((x, y + 0.1), (x, y + 0.62), theme.tint(theme.grey, 0.5), linewidth=0.8, mutation_scale=7)
            if done:
                page.arrow((x - reach * step + 0.04, y + 0.09), (x - 0.07, y + 0.64), theme.green, linewidth=1.1)
            page.ax.plot(x, y + 0.72, "o", color=theme.green if done else theme.sky, markersize=9)
        known = [known[t] | (known[t - reach] if t >= reach else set()) for t in range(length)]
        work, rounds, reach = work + length - reach, rounds + 1, 2 * reach
        page.say((right + length * step - 0.22, y + 0.37), f"{reach // 2} back", theme.green, 9, ha="left")
    assert known == [set(range(t + 1)) for t in range(length)]  # every state has seen all tokens up to its own
    page.say((left + 3.5 * step, 3.75), "chain: one after the other", theme.brown)
    page.say((right + 3.5 * step, 3.75), "tree: many at once, in rounds", theme.green)
    page.say((right - 0.2, 3.47), "light blue: finished, only copied", letters=9, ha="left")
    for x in (left, right):
        page.say((x + 3.5 * step, low - 0.28), f"tokens 1 to {length}", theme.blue)
    page.arrow((0.3, low), (0.3, low + 2.5), theme.tint(theme.grey, 0.5))
    page.say((0.14, low + 1.25), "time", rotation=90, va="center")
    for x, all_of_it, after_another in ((left, length - 1, length - 1), (right, work, rounds)):
        page.say((x + 3.5 * step, 0.48), f"work: {all_of_it} combinations", theme.ink)
        page.say((x + 3.5 * step, 0.22), f"depth: {after_another} one after the other", theme.ink)
    text = (
        f"The states of {length} tokens, as a chain and as a parallel prefix scan. Time runs upwards. The tree needs "
        "fewer rounds, one after the other, and more combinations in all."
    )
    return Built(page.figure, text, {"length": length, "work": work, "rounds": rounds})


def mamba_block(theme: Theme = LIGHT) -> Built:
    """The layer around the scan, with the number of channels on every way."""
    from lkm_kit.ssm import Mamba

    mamba, channels = Mamba(16), 16
    wide, inner = mamba.in_proj.out_features, mamba.conv1d.out_channels
    rank, state = mamba.dt_rank, mamba.d_state
    page = Sheet(4.3, theme)
    top, low, mid = 2.45, 0.65, 1.55
    page.box((0.5, mid), (0.85, 0.7), f"tokens:\n{channels}", theme.grey)
    page.box((1.65, mid), (0.95, 0.7), f"linear\n→ {wide}", theme.sky)
    page.arrow((0.93, mid), (1.17, mid))
    page.arrow((2.13, mid + 0.15), (2.6, top - 0.2))
    page.say((2.3, top - 0.1), f"x: {inner}", ha="right")
    page.arrow((2.13, mid - 0.15), (2.6, low + 0.1))
    page.say((2.3, low + 0.12), f"z: {inner}", ha="right")
    page.box((3.15, top), (1.1, 0.7), f"convolution\n{mamba.d_conv} tokens,\nSiLU", theme.green, letters=9.5)
    page.box((4.95, top), (1.2, 0.8), "selective\nscan", theme.blue, weight="bold")
    page.arrow((3.7, top), (4.35, top))
    page.say((4.03, top - 0.16), "u")
    page.box((4.03, top + 1.2), (1.15, 0.55), f"linear\n→ {rank} + {state} + {state}", theme.sky, letters=9.5)
    page.arrow((3.95, top + 0.02), (3.95, top + 0.91))
    page.box((5.5, top + 1.38), (1.25, 0.55), f"linear {rank} → {inner},\nsoftplus", theme.sky, letters=9.5)
    page.arrow((4.62, top + 1.32), (4.86, top + 1.36))
    page.arrow((5.5, top + 1.1), (5.3, top + 0.42))
    page.say((5.55, top + 0.72), f"Δ: {inner}", theme.blue, ha="left")
    page.arrow((4.5, top + 0.92), (4.75, top + 0.42))
    page.say((4.5, top + 0.66), f"B: {state}\nC: {state}", theme.blue, ha="right")
    page.ring((6.0, top), "+")
    page.arrow((5.55, top), (5.84, top))
    page.ax.plot((4.15, 4.15, 5.72), (top, top - 0.58, top - 0.58), color=theme.pink, linewidth=1.3)
    page.arrow((5.72, top - 0.58), (5.9, top - 0.13), theme.pink)
    page.say((4.95, top - 0.75), "skip: D · u", theme.pink)
    page.box((3.15, low), (1.1, 0.5), "SiLU", theme.green)
    page.arrow((3.7, low), (5.9, mid - 0.14), bend=0.12)
    page.say((5.15, low - 0.1), "gate: how much is let through", va="top")
    page.ring((6.0, mid), "×")
    page.arrow((6.0, top - 0.17), (6.0, mid + 0.17))
    page.box((6.85, mid), (0.95, 0.7), f"linear\n→ {channels}", theme.sky)
    page.arrow((6.17, mid), (6.37, mid))
    page.arrow((6.85, mid - 0.35), (6.85, 0.6))
    page.say((6.85, 0.42), f"tokens: {channels}")
    page.say((1.55, 3.85), f"Mamba for {channels} channels", theme.ink, weight="bold")
    page.say((1.55, 3.55), "numbers: channels of a token", letters=9.5)
    text = (
        f"The Mamba layer for {channels} channels. The scan reads u; Δ, B and C of every token are made of the same u; "
        "D passes it by; z is the gate."
    )
    return Built(page.figure, text, {"channels": channels, "d_state": state, "d_conv": mamba.d_conv})
