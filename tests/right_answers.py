"""Right answers that look unlike the chapters': loops, einsum, NumPy for torch, other calls. By their check's name."""

import heapq
import itertools
import math
import statistics
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from einops import rearrange
from scipy import ndimage, stats


def _scan_by_hand(A_bar: torch.Tensor, B_bar: torch.Tensor, C: torch.Tensor, x: torch.Tensor) -> list:
    h, ys = [0.0] * len(A_bar), []
    for token in x.tolist():
        h = [float(a) * old + float(b) * token for a, b, old in zip(A_bar, B_bar, h)]
        ys.append(sum(float(c) * state for c, state in zip(C, h)))
    return ys


def _tree_as_pairs(a, b):
    states, last = [], torch.zeros_like(b[..., 0])
    for a_t, b_t in zip(a.unbind(-1), b.unbind(-1)):
        last = torch.addcmul(b_t, a_t, last)
        states += [last]
    return torch.stack(states, dim=-1)


def _tree_by_recursion(a, b):
    if b.shape[-1] == 1:
        return b
    before = _tree_by_recursion(a[..., :-1], b[..., :-1])
    return torch.cat([before, a[..., -1:] * before[..., -1:] + b[..., -1:]], -1)


def _memory(delta, A):
    left = 1.0
    for k, step in enumerate(delta.tolist(), 1):
        left *= math.exp(A * step)
        if left <= math.exp(-1):
            return k
    return len(delta)


def _swapped(bim):
    """With its two Mambas exchanged, a BiM reads the reversed tokens as before."""
    x = torch.randn(2, 7, bim.channels)
    before = bim(x)
    bim.mamba_forward, bim.mamba_backward = bim.mamba_backward, bim.mamba_forward
    return (bim(x.flip(1)).flip(1) - before).norm() < 1e-4


def _one_for_both(bim):
    bim.mamba_backward = bim.mamba_forward
    x = torch.rand(1, 5, bim.norm.normalized_shape[0])
    return np.allclose(bim(x.flip(1)).numpy(), bim(x).flip(1).numpy(), atol=1e-4)


def _mates_by_loop(size, row, column, k, partition):
    found = np.zeros((size, size), dtype=bool)
    for i, j in itertools.product(range(size), repeat=2):
        key = (lambda v: v % k) if partition == "dilated" else (lambda v: v // k)
        found[i, j] = (key(i), key(j)) == (key(row), key(column))
    return found


def _windows(size, strides, most):
    h, w = size
    found = []
    for s in strides:
        h, w = h // s, w // s
        found.append(next(k for k in range(most, 0, -1) if h % k == 0 and w % k == 0))
    return tuple(found)


def _multiple(strides, windows):
    side = 1
    while any(side % (math.prod(strides[: i + 1]) * k) for i, k in enumerate(windows)):
        side += 1
    return side


def _interval(differences, draws):
    means = torch.as_tensor(differences)[torch.as_tensor(draws)].mean(dim=1)
    return torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype))


def _by_place(low, high):
    def interval(differences, draws):
        means = sorted(sum(differences[i] for i in row) / len(row) for row in draws)
        return means[low(len(means))], means[high(len(means))]

    return interval


def _quantiles(differences, draws):
    cuts = statistics.quantiles(np.take(differences, draws).mean(1), n=40)
    return [cuts[0], cuts[-1]]


def _seeds(difference, spread):
    n = 2
    while difference < 2.8 * math.sqrt(spread**2 / n + spread**2 / n):
        n += 1
    return n


def _holm(p):
    n, adjusted = len(p), {}
    for rank, (value, place) in enumerate(sorted(zip(p, range(n)))):
        adjusted[place] = min(1.0, max([(n - rank) * value, *adjusted.values()]))
    return np.array([adjusted[i] for i in range(n)])


def _area(values, share):
    flat = np.sort(values.numpy().ravel())[::-1]
    return float(np.searchsorted(np.cumsum(flat, dtype=float) / flat.sum(dtype=float), share - 1e-9) + 1) / flat.size


def _field(kernels, strides):
    side = 1
    for k, s in zip(reversed(kernels), reversed(strides)):
        side = (side - 1) * s + k
    return side


def _snake(height, width):
    walk = []
    for i in range(height):
        columns = range(width - 1, -1, -1) if i & 1 else range(width)
        walk.extend(i * width + j for j in columns)
    return walk


def _cross(x, scan):
    c, h, w = x.shape
    rows = x.reshape(c, h * w)
    columns = rearrange(x, "c h w -> c (w h)")
    y = scan(rows) + torch.flip(scan(torch.flip(rows, [-1])), [-1])
    z = scan(columns) + torch.flip(scan(torch.flip(columns, [-1])), [-1])
    return y.view(c, h, w) + rearrange(z, "c (w h) -> c h w", w=w)


def _never(size, strides, row, column):
    joined, todo = {(row, column)}, [(row, column)]
    while todo:
        i, j = todo.pop()
        for k in strides:
            for pixel in itertools.product(range(i % k, size, k), range(j % k, size, k)):
                if pixel not in joined:
                    joined.add(pixel)
                    todo.append(pixel)
    return np.array([[(i, j) not in joined for j in range(size)] for i in range(size)])


def _ssd(x, delta, A, B, C):
    h = torch.zeros(B.shape[1], x.shape[1])
    ys = []
    for t in range(len(x)):
        h = torch.exp(A * delta[t]) * h + delta[t] * torch.outer(B[t], x[t])
        ys.append(C[t] @ h)
    return torch.stack(ys)


def _ssd_einsum(x, delta, A, B, C):
    t = (A * delta).cumsum(0)
    later = torch.ones(len(x), len(x)).triu(1).bool()
    mask = torch.exp((t[:, None] - t[None]).masked_fill(later, -torch.inf))
    return torch.einsum("ts,tn,sn,s,sp->tp", mask, C, B, delta, x)


def _dice_loop(p, t):
    scores = []
    for c in range(1, p.shape[1]):
        a, b = p[:, c].flatten(), t[:, c].flatten()
        scores.append((2 * torch.dot(a, b) + 1e-5) / (a.sum() + b.sum() + 1e-5))
    return 1 - sum(scores) / len(scores)


def _pairs(alike, person):
    by = defaultdict(list)
    for i, j in itertools.combinations(range(len(person)), 2):
        by[person[i] == person[j]].append(alike[i, j])
    return np.mean(by[True]) - np.mean(by[False])


def _fallback(size, strides, sides):
    h, w = size
    out = []
    for i, (s, p) in enumerate(zip(strides, sides)):
        h, w = h // s, w // s
        if h % p or w % p:
            out += [i]
    return out


def _tiles(size, window, overlap):
    count = 1
    for n, w in zip(size, window):
        step, end, here = int(w * (1 - overlap)), w, 1
        while end < n:
            end, here = end + step, here + 1
        count *= here
    return count


def _to_mm(affine, indices):
    return (np.c_[indices, np.ones(len(indices))] @ affine.T)[:, :3]


def _translate(label, source, target):
    table = np.zeros(1 + max(source.values()), dtype=int)
    for name in source.keys() & target.keys():
        table[source[name]] = target[name]
    return table[label]


def _erf(layer, x, row, column):
    return torch.func.grad(lambda image: layer(image)[0, :, row, column].sum())(x)[0].abs().sum(0)


def _reached(size, k, row, column):
    n = size // k
    return [k**2, sum(i * n + j >= row // k * n + column // k for i in range(n) for j in range(n)) * k**2, size**2, 2]


RIGHT = {
    "check_volume_ml": [
        lambda mask, spacing: np.count_nonzero(mask) * math.prod(spacing) * 1e-3,
        lambda mask, spacing: sum(1 for v in mask.flat if v) * spacing[0] * spacing[1] * spacing[2] / 10**3,
    ],
    "check_ct_window": [
        lambda image, c, w: np.interp(image, [c - w / 2, c + w / 2], [0, 1]),
        lambda image, c, w: np.minimum(1, np.maximum(0, (image - (c - w / 2)) / w)),
    ],
    "check_axial": [
        lambda volume, z: np.flip(volume[..., z]).T,
        lambda volume, z: np.rot90(volume[::-1, :, z]),
        lambda v, z: [[v[-1 - i, -1 - j, z] for i in range(v.shape[0])] for j in range(v.shape[1])],
    ],
    "check_dice": [
        lambda p, t: 2 * np.logical_and(p, t).sum() / (np.count_nonzero(p) + np.count_nonzero(t)),
        lambda p, t: (lambda j: 2 * j / (1 + j))((p & t).sum() / (p | t).sum()),
        lambda p, t: torch.tensor(2 * (p * t).sum() / (1 * p + 1 * t).sum()),
    ],
    "check_discretize_diagonal": [
        lambda A, B, delta: (torch.exp(A * delta), torch.expm1(A * delta) / (A * delta) * delta * B),
        lambda A, B, delta: [np.exp(delta * A.numpy()), [(math.exp(delta * a) - 1) / a * b for a, b in zip(A, B)]],
    ],
    "check_scan": [
        _scan_by_hand,
        lambda A, B, C, x: [sum((C * A**s * B).sum() * x[t - s] for s in range(t + 1)) for t in range(len(x))],
    ],
    "check_kernel": [
        lambda A, B, C, n: torch.stack([(C * A**s * B).sum() for s in range(n)]),
        lambda A, B, C, n: torch.einsum("n,n,nl->l", B, C, torch.stack([A**s for s in range(n)], 1)),
        lambda A, B, C, n: np.vander(A.numpy(), n, increasing=True).T @ (B * C).numpy(),
        lambda A, B, C, n: (C * B * torch.exp(torch.arange(n)[:, None] * torch.log(A))).sum(1),
    ],
    "check_half_life": [
        lambda A, delta: np.log(0.5) / (A * delta),
        lambda A, delta: -math.log(2) / A / delta,
        lambda A, delta: math.log(0.5, math.exp(A * delta)),
    ],
    "check_causal": [
        lambda x, k: F.conv1d(F.pad(x, (len(k) - 1, 0))[None, None], k.flip(0)[None, None])[0, 0],
        lambda x, k: np.convolve(x.numpy(), k.numpy())[: len(x)],
        lambda x, k: [sum(k[s] * x[t - s] for s in range(min(t + 1, len(k)))) for t in range(len(x))],
    ],
    "check_tree": [_tree_as_pairs, _tree_by_recursion],
    "check_memory_length": [
        _memory,
        lambda d, A: min(len(d), int(torch.searchsorted(torch.cumsum(-A * d, 0), 1.0)) + 1),
        lambda d, A: next((k + 1 for k in range(len(d)) if d[: k + 1].sum() * A <= -1), len(d)),
    ],
    "check_time_step": [
        lambda d: d + torch.log1p(-torch.exp(-d.double())).float() if d.min() > 0.05 else d.double().expm1().log(),
        lambda d: np.log(np.expm1(d.numpy().astype(np.float64))),
    ],
    "check_already_read": [
        lambda side, r, c: np.array([[(i, j) <= (r, c) for j in range(side)] for i in range(side)]),
        lambda side, r, c: torch.ones(side * side).cumsum(0).le(r * side + c + 1).view(side, side),
    ],
    "check_heard_pairs": [
        lambda n: (sum(range(n + 1)), math.comb(n + 1, 2), n**2, n * n),
        lambda n: np.array([n * (n + 1) // 2] * 2 + [n * n] * 2),
    ],
    "check_bim_test": [_swapped, _one_for_both],
    "check_place_in_window": [
        lambda r, c, k, w: (r // k * (w // k) + c // k, (r - r // k * k) * k + (c - c // k * k)),
        lambda r, c, k, w: torch.tensor([(r // k) * (w // k) + c // k, (r % k) * k + c % k]),
    ],
    "check_cut_windows": [
        lambda x, k: rearrange(x, "b c (h i) (w j) -> (b h w) (i j) c", i=k, j=k),
        lambda x, k: F.unfold(x, k, stride=k).unflatten(1, (x.shape[1], k * k)).permute(0, 3, 2, 1).flatten(0, 1),
        lambda x, k: x.unfold(2, k, k).unfold(3, k, k).permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(0, 2),
    ],
    "check_tokens_apart": [
        lambda w, axis: int(np.prod(w[axis + 1 :], dtype=int)),
        lambda w, axis: torch.empty(w).stride(axis),
    ],
    "check_mates": [_mates_by_loop],
    "check_reached": [_reached],
    "check_way": [
        lambda s, w, a, b, pam: 1 if pam else (1 if [p // w for p in a] == [p // w for p in b] else np.inf),
        lambda s, w, a, b, pam: torch.inf if not pam and (a[0] // w, a[1] // w) != (b[0] // w, b[1] // w) else 1,
    ],
    "check_attention_cost": [lambda side, pool: pool**2 * pool**2, lambda side, pool: np.int64(pool) ** 4],
    "check_windows_for": [_windows],
    "check_bim_parameters": [
        lambda d: 4 * d * (2 * d + 5 + 2 * -(-d // 16) + 32 + 1 + 16 + 1) + 2 * d * d + 2 * d,
    ],
    "check_supervision_weights": [
        lambda n: [2 ** (n - 2 - i) / (2 ** (n - 1) - 1) for i in range(n - 1)] + [0],
        lambda n: F.normalize(torch.tensor([2.0**-i for i in range(n - 1)] + [0.0]), p=1, dim=0),
    ],
    "check_image_multiple": [_multiple, lambda s, w: int(np.lcm.reduce(np.cumprod(s) * np.array(w)))],
    "check_to_mm": [_to_mm, lambda a, i: np.einsum("ij,pj->pi", a[:3, :3], i) + a[:3, -1]],
    "check_translate": [
        _translate,
        lambda label, s, t: sum((label == i) * t.get(name, 0) for name, i in s.items()),
    ],
    "check_slice_gap": [
        lambda gap, z: next(k for k in itertools.count() if (k + 1) * z >= gap - 1e-9),
        lambda gap, z: max(-int(-gap // z) - 1, 0),
    ],
    "check_box_dice": [
        lambda size, shift: np.prod(np.clip(np.array(size) - np.abs(shift), 0, None) / np.array(size)),
        lambda size, shift: math.prod(max(0.0, 1 - abs(d) / s) for s, d in zip(size, shift)),
    ],
    "check_soft_dice_loss": [
        _dice_loop,
        lambda p, t: (
            1
            - ((2 * torch.einsum("bchw,bchw->c", p, t) + 1e-5) / (p.sum((0, 2, 3)) + t.sum((0, 2, 3)) + 1e-5))[
                1:
            ].mean()
        ),
    ],
    "check_poly_rate": [
        lambda step, n, start: start * ((n - step) / n) ** 0.9,
        lambda step, n, start: start * math.exp(0.9 * math.log1p(-step / n)),
    ],
    "check_surface_dice": [
        lambda a, b, t: np.mean(np.concatenate([a, b]) <= t),
        lambda a, b, t: sum(d <= t for d in [*a, *b]) / (a.size + b.size),
    ],
    "check_official_slices": [
        lambda truth: np.arange(*np.flatnonzero(truth.any((0, 1)))[[0, -1]]),
        lambda truth: list(range(truth.shape[2]))[min(np.nonzero(truth)[2]) : max(np.nonzero(truth)[2])],
    ],
    "check_same_length": [lambda side, k: len(range(0, side, k)), lambda side, k: int(side / k)],
    "check_order_agreement": [
        lambda a, b: stats.kendalltau(a, b)[0],
        lambda a, b: float(
            np.mean(np.sign(np.subtract.outer(a, a) * np.subtract.outer(b, b))[np.triu_indices(len(a), 1)])
        ),
    ],
    "check_tokens": [lambda s, k, p: [k**2, (s // k) ** 2][p != "contiguous"]],
    "check_paired": [
        lambda a, b: np.mean([x - y for x, y in zip(a.flat, b.flat) if x == x and y == y]),
        lambda a, b: torch.nanmean(torch.tensor(a - b)),
    ],
    "check_interval": [
        _interval,
        lambda d, i: np.quantile(np.take(d, i).mean(-1), [0.025, 0.975]),
        _by_place(lambda n: int(0.025 * n), lambda n: int(0.975 * n)),
        _by_place(lambda n: int(0.025 * n) - 1, lambda n: math.ceil(0.975 * n) - 1),
        _by_place(lambda n: round(0.025 * (n - 1)), lambda n: round(0.975 * (n - 1))),
        _quantiles,
        *(
            lambda d, i, how=how: np.percentile(d[i].mean(1), (2.5, 97.5), method=how)
            for how in ("lower", "higher", "nearest", "inverted_cdf", "hazen", "median_unbiased")
        ),
    ],
    "check_holm": [_holm],
    "check_field_side": [_field],
    "check_erf_by_hand": [_erf],
    "check_area_holding": [_area],
    "check_window_share": [
        lambda v, r, c, k: (
            (
                sum(v[i, j] for i in range(r // k * k, r // k * k + k) for j in range(c // k * k, c // k * k + k))
                - v[r, c]
            )
            / (v.sum() - v[r, c])
        ),
    ],
    "check_patch_tokens": [
        lambda size, patch: math.prod(size) // patch ** len(size),
        lambda size, patch: torch.empty([n // patch for n in size]).numel(),
    ],
    "check_conv_parameters": [lambda i, o, k: np.prod([o, i, *k]) + o, lambda i, o, k: math.prod((o, i, *k)) + o],
    "check_in_spreads": [
        lambda a, b, s, n: np.abs(a - b) / np.sqrt(s**2 / n + s**2 / n),
        lambda a, b, s, n: math.fabs(b - a) / s / math.sqrt(2) * math.sqrt(n),
    ],
    "check_residues": [
        lambda x, p: (np.indices(x.shape[2:]) % p * np.array([p, 1])[:, None, None]).sum(0),
        lambda x, p: torch.arange(p * p).view(p, p).repeat(x.shape[2] // p, x.shape[3] // p),
    ],
    "check_three_readings": [lambda s, k: np.array([k, s // k, s // k]) ** 2],
    "check_fallback": [_fallback],
    "check_translated": [_translate],
    "check_chance": [
        lambda d, sd: 2 * stats.norm.sf(d / (sd * 2**0.5)),
        lambda d, sd: 1 - math.erf(d / (2 * sd)),
    ],
    "check_window_mm": [lambda w, t, s: np.array(w) * np.prod(t, axis=0) * np.array(s)],
    "check_tiles": [_tiles],
    "check_mirrored": [
        lambda f, x: torch.stack([f(x), f(x.flip(2)).flip(2)]).mean(0),
        lambda f, x: 0.5 * f(x) + 0.5 * torch.flip(f(torch.flip(x, (2,))), (2,)),
    ],
    "check_logits_gib": [lambda n, c: np.prod([*n, c], dtype=float) * 4 / 1024**3],
    "check_gpu_hours": [lambda e, i, b, r: e * (i * b / r) / 60 / 60],
    "check_trainings": [
        lambda s, f, n: len(set().union(*s)) * f * n,
        lambda s, f, n: len(Counter(itertools.chain(*s))) * f * n,
    ],
    "check_seeds_needed": [
        lambda d, s: next(n for n in itertools.count(2) if s * math.sqrt(2 / n) * 2.8 <= d + 1e-9),
        lambda d, s: max(2, -int(-(2 * 2.8**2 * s**2 / d**2 - 1e-9) // 1)),
        _seeds,
        lambda d, s: max(2, math.ceil((math.sqrt(2) * 2.8 * s / d) ** 2)),
        lambda d, s: max(2, math.ceil(15.68 * (s / d) ** 2)),
        lambda d, s: max(math.ceil(2 * (1.96 + 0.84) ** 2 * s * s / (d * d)), 2),
    ],
    "check_empty_organs": [
        lambda x: [sum(1.0 if v != v else v for v in x) / len(x), np.mean([v for v in x if v == v])],
        lambda x: (np.nansum([*x, np.isnan(x).sum()]) / x.size, x[~np.isnan(x)].mean()),
        lambda x: pd.DataFrame({"official": pd.Series(x).fillna(1), "plain": x}).mean(),
    ],
    "check_leaked": [
        lambda a, b, p: len([n for n in b if p[n] in [p[m] for m in a]]),
        lambda a, b, p: np.isin([p[n] for n in b], [p[n] for n in a]).sum(),
    ],
    "check_pair_gap": [_pairs],
    "check_case_dsc": [
        lambda p, t: 2 * sum((a & b).sum() for a, b in zip(p, t)) / sum(a.sum() + b.sum() for a, b in zip(p, t)),
        lambda p, t: ndimage.sum_labels(2 * p, t) / (p.sum() + t.sum()),
    ],
    "check_worst": [
        lambda s, n: [k for _, k in sorted((np.nanmean(v), k) for k, v in s.items())][:n],
        lambda s, n: np.array(list(s))[np.argsort([np.nanmean(v) for v in s.values()])[:n]],
        lambda s, n: heapq.nsmallest(n, s, key=lambda k: statistics.fmean(v for v in s[k] if v == v)),
        lambda s, n: pd.DataFrame(s).mean().nsmallest(n).index,
    ],
    "check_snake": [_snake],
    "check_cross_scan": [_cross],
    "check_never_joined": [_never],
    "check_ssd_attention": [_ssd, _ssd_einsum],
}
