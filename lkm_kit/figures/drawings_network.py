"""Drawings of chapters 06, 10 and 11: the U with its LM blocks, a paired study, a receptive field being measured."""

from __future__ import annotations

import numpy as np

from lkm_kit.figures.built import Built
from lkm_kit.figures.drawings import Sheet, signed
from lkm_kit.figures.theme import LIGHT, Theme


def u_shape(theme: Theme = LIGHT) -> Built:
    """The paper's 2D network: maps, channels, and what PiM and PaM read at every stage."""
    import torch

    from lkm_kit.networks import build_network, describe

    with torch.device("meta"):
        network = build_network("lkm-unet/paper-2d", input_channels=1, num_classes=14)
    table = describe(network, (320, 320))
    page = Sheet(5.85, theme)
    top, drop, shift = 4.75, 0.68, 0.2
    widths, last = (1.15, 1.15, 0.75), len(table) - 1
    for number, (stage, row) in enumerate(table.iterrows()):
        y, left, right = top - drop * number, 0.45 + shift * number, 7.3 - shift * number
        size = f"{row['map'][0]}² · {row['channels']}"
        words = (size, f"PiM {row['sequences']} × {row['tokens']}", f"PaM {row['pam_tokens']}")
        page.say((0.2, y), f"{stage}")
        group = sum(widths) + 0.2
        page.box((left - 0.06 + group / 2, y), (group, 0.48), color=theme.tint(theme.grey, 0.45))
        x = left
        for width, text, color in zip(widths, words, (theme.blue, theme.orange, theme.green)):
            page.box((x + width / 2, y), (width, 0.38), text, color, letters=9)
            x += width + 0.04
        if number < last:
            below = left + shift + widths[0] / 2
            page.arrow((below, y - 0.24), (below, y - drop + 0.24), theme.blue)
            page.box((right - widths[0] / 2, y), (widths[0], 0.38), size, theme.blue, letters=9)
            page.arrow((x + 0.06, y), (right - widths[0] - 0.04, y), theme.pink)
            above = right - shift - widths[0] / 2
            if number < last - 1:
                page.arrow((above, y - drop + 0.2), (above, y - 0.2), theme.blue)
        else:
            page.arrow((x + 0.06, y), (right - widths[0] / 2, y + drop - 0.2), theme.blue, bend=0.25)
    for x, words, color in (
        (1.02, "map · channels", theme.blue),
        (2.22, "sequences\n× tokens", theme.brown),
        (3.2, "tokens", theme.green),
        (4.75, "skip connections", theme.pink),
        (6.72, "map · channels", theme.blue),
    ):
        page.say((x, top + 0.43), words, color, 9)
    head = {"color": theme.ink, "weight": "bold"}
    page.say((1.95, 5.6), "image, 1 channel → encoder:\nconvolutions, then PiM and PaM", **head)
    page.say((6.2, 5.6), "decoder: convolutions\n→ logits of 14 classes", **head)
    page.say((0.2, top + 0.43), "stage", letters=9)
    text = (
        "The paper's 2D network for a slice of 320×320 pixels. Every encoder stage ends in an LM block: PiM reads its "
        "windows as sequences, PaM reads one representative of each window. The decoder has convolutions only."
    )
    return Built(page.figure, text, {"image_size": [320, 320], "network": "lkm-unet/paper-2d"})


def erf_measured(theme: Theme = LIGHT) -> Built:
    """From one output pixel back to the image: one gradient, and the mean of many."""
    import torch
    from torch import nn

    from lkm_kit.blocks import LMBlock
    from lkm_kit.erf.mass import area_curve

    side, asked, images = 24, (11, 13), 32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            LMBlock(8, 8, backend="reference"),
            nn.GELU(),
            nn.Conv2d(8, 1, 3, padding=1),
        )
        noise = torch.randn(images, 1, 6, 6)
    pictures = nn.functional.interpolate(noise, size=(side, side), mode="bicubic")
    pictures.requires_grad_()
    output = network(pictures)
    (gradient,) = torch.autograd.grad(output[:, 0, asked[0], asked[1]].sum(), pictures)
    sizes = gradient[:, 0].abs().numpy()
    mean = sizes.mean(0)
    share = float(area_curve(mean, [0.9])[0])
    panels = {
        "an image": pictures[0, 0].detach().numpy(),
        "its output": output[0, 0].detach().numpy(),
        "|gradient|": sizes[0] ** 0.5,
        f"mean of {images}": mean**0.5,
    }
    page = Sheet(2.95, theme)
    cell, top = 0.054, 2.3
    lefts = (0.1, 2.1, 4.1, 6.1)
    for (title, values), left, color in zip(panels.items(), lefts, (theme.grey, theme.grey, theme.blue, theme.blue)):
        scaled = (values - values.min()) / np.ptp(values)
        page.ax.imshow(
            theme.shades(scaled, color),
            extent=(left, left + side * cell, top - side * cell, top),
            interpolation="nearest",
        )
        page.frame((left, top), (0, 0, side, side), cell, theme.grey, linewidth=0.8)
        page.say((left + side * cell / 2, top + 0.2), title, theme.ink, weight="bold")
    for left, color in ((lefts[1], theme.red), (lefts[2], theme.red), (lefts[3], theme.red)):
        page.frame((left, top), (*asked, 1, 1), cell, color, linewidth=1.4)
    middle, wide = top - side * cell / 2, side * cell
    for number, word in enumerate(("network", "backward", "average")):
        start, end = lefts[number] + wide + 0.06, lefts[number + 1] - 0.06
        page.arrow((start, middle), (end, middle))
        page.say(((start + end) / 2, middle + 0.17), word, theme.brown, 9)
    captions = (
        "one of many,\nat random",
        "one pixel of it\nis asked (red)",
        "what every pixel of the\nimage does to it (root)",
        f"90 % of it lie on\n{100 * share:.0f} % of the pixels",
    )
    for left, words in zip(lefts, captions):
        page.say((left + wide / 2, top - wide - 0.38), words, letters=9)
    page.ax.set(xlim=(0, 7.5), ylim=(0, 2.95))
    text = (
        "How an effective receptive field is measured: the derivative of one output pixel with respect to every pixel "
        "of the image, its size averaged over images. It is drawn as square roots here, so that weak values show. The "
        "network is untrained: two convolutions around an LM block with windows of 8."
    )
    return Built(page.figure, text, {"side": side, "pixel": list(asked), "images": images, "window": 8}, seed=0)


def paired_study(theme: Theme = LIGHT) -> Built:
    """Seeds and cases of an arm and its control: subtract cell by cell, then average."""
    from lkm_kit.studies.intervals import student_interval

    rng = np.random.default_rng(3)
    seeds, cases = 3, 5
    hard, luck = rng.normal(0, 9, cases), rng.normal(0, 1.0, (2, seeds, 1))
    control = 72 + hard + luck[0] + rng.normal(0, 0.8, (seeds, cases))
    arm = 74 + hard + luck[1] + rng.normal(0, 0.8, (seeds, cases))
    control, arm = control.round(1), arm.round(1)
    difference = arm - control
    low, high = student_interval(difference)
    page = Sheet(4.2, theme)
    cell, top = 0.4, 3.4
    lefts = (0.55, 2.95, 5.35)
    grids = {"arm: DSC (%)": arm, "control: DSC (%)": control, "difference": difference}
    both = np.concatenate([arm, control])
    for number, ((name, values), left) in enumerate(zip(grids.items(), lefts)):
        if name == "difference":
            colors = np.where(values[..., None] > 0, theme.tint(theme.green, 0.35), theme.tint(theme.pink, 0.4))
        else:
            colors = theme.shades(0.5 * (values - both.min()) / np.ptp(both), (theme.blue, theme.orange)[number])
        form = "{:+.1f}" if name == "difference" else "{:.0f}"
        numbers = np.vectorize(lambda value, form=form: form.format(value).replace("-", "−"))(values)
        page.squares((left, top), colors, cell, numbers, 9)
        page.say((left + cell * cases / 2, top + 0.5), name, theme.ink, weight="bold")
        for case in range(cases):
            page.say((left + cell * (case + 0.5), top + 0.15), "ABCDE"[case], letters=9)
    page.say((lefts[0] - 0.25, top + 0.15), "case", letters=8.5)
    for seed in range(seeds):
        page.say((lefts[0] - 0.25, top - cell * (seed + 0.5)), f"seed {seed}", letters=8.5)
    page.say((2.75, top - 0.6), "−", theme.ink, 16)
    page.say((5.15, top - 0.6), "=", theme.ink, 16)
    page.say((3.75, top - 1.4), "all on one scale, in points of DSC (the scores are made up)", theme.ink)
    start, inch, floor = 2.3, 0.068, 0.5  # where the mean is, inches of a point of DSC, and the axis
    page.ax.plot((start, start), (floor, floor + 1.25), color=theme.tint(theme.grey, 0.4), linewidth=1)
    page.ax.plot((start - 25 * inch, start + 25 * inch), (floor, floor), color=theme.grey, linewidth=1)
    for points in (-20, -10, 0, 10, 20):
        page.ax.plot([start + points * inch] * 2, (floor - 0.05, floor), color=theme.grey, linewidth=1)
        page.say((start + points * inch, floor - 0.2), signed(points), letters=9)
    rows = {"scores less their mean": both - both.mean(), "differences": difference, "of each seed": difference.mean(1)}
    for number, (name, values) in enumerate(rows.items()):
        y, color = floor + 1.1 - 0.4 * number, (theme.grey, theme.green, theme.blue)[number]
        if name == "of each seed":
            page.ax.plot(
                (start + inch * low, start + inch * high),
                (y, y),
                color=theme.blue,
                linewidth=7,
                alpha=0.25,
                solid_capstyle="butt",
            )
        page.ax.plot(start + inch * values.ravel(), np.full(values.size, y), "o", color=color, markersize=6, alpha=0.6)
        span = f"{signed(round(float(values.min()), 1))} to {signed(round(float(values.max()), 1))}"
        interval = f"mean {difference.mean():.1f}, 95 %: {low:.1f} to {high:.1f}".replace("-", "−")
        words = {"of each seed": f"means of the seeds; bar:\n{interval}"}
        page.say((4.45, y), words.get(name, f"{name}: {span}"), color, ha="left")
    text = (
        "How a study is paired: every arm is scored on the same cases with the same seeds, and the control's score is "
        "subtracted cell by cell. Most of the scatter between cases is gone; what is left is judged by the seeds. "
        "The scores are made up."
    )
    config = {"seeds": seeds, "cases": cases, "mean": float(difference.mean()), "interval": [low, high]}
    return Built(page.figure, text, config, seed=3)
