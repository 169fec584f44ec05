"""What every exercise check owes a learner: the fitting advice, no refusal of a right answer, no traceback.

The mistakes stand with the checks. The solutions here reach their numbers in another way than the checks do.
"""

import functools
import math
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from combinations import first
from scipy.stats import kendalltau, norm
from torch import nn

from lkm_kit import course
from lkm_kit.blocks import LMBlock, to_tokens
from lkm_kit.course import CHECKS
from lkm_kit.course.check_class import check_class
from lkm_kit.data.organs import ORGANS, to_kit_ids
from lkm_kit.networks import UNet
from lkm_kit.ssm import Mamba, causal_convolution, convolution_kernel, discretize, recurrence, selective_scan
from lkm_kit.studies.statistics import holm

CLASSES = {
    "check_mamba": "checks_scan",
    "check_bim": "checks_bidirectional",
    "check_pim": "checks_pixel",
    "check_pam": "checks_patch",
    "check_network": "checks_blocks",
}
"""The checks of classes, which are tested at the end."""
NAMES = [(module, name) for module, names in CHECKS.items() for name in names if name not in CLASSES]


@functools.cache
def recorded(module, name):
    """The check, and what it gives to check_function or check_class."""
    home, given = import_module(f"lkm_kit.course.{module}"), {}
    machinery = "check_class" if name in CLASSES else "check_function"
    compare = getattr(home, machinery)

    def record(answer, expected, cases, **options):
        given.update(expected=expected, cases=cases, **options)
        return compare(answer, expected, cases, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, machinery, record)
        check = getattr(home, name)
        check((lambda *a, **k: nn.Linear(1, 1)) if name in CLASSES else None)  # None may be refused before it compares
    return check, given


MISTAKES = [(m, n, k) for m, n in NAMES for k in range(len(recorded(m, n)[1]["mistakes"]))]


@pytest.mark.parametrize(("module", "name", "k"), MISTAKES)
def test_a_mistake_fails_with_its_own_advice(module, name, k):
    check, given = recorded(module, name)
    wrong, advice = given["mistakes"][k]
    result = check(wrong)
    assert not result.ok, f"a listed mistake passes: {advice}"
    assert advice in result.message, f"{result.message} instead of: {advice}"


def numbers(value):
    """Whether value is one number, an array, or several numbers of one shape."""
    if isinstance(value, (tuple, list)):
        return all(numbers(part) for part in value) and len({np.shape(_numpy(part)) for part in value}) == 1
    return isinstance(value, (int, float, np.ndarray, np.generic, torch.Tensor))


def _numpy(value):
    if isinstance(value, (tuple, list)):
        return np.array([_numpy(part) for part in value])
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


CONTAINERS = {
    "array": _numpy,
    "tensor": lambda value: torch.as_tensor(_numpy(value).copy()),
    "list": lambda value: _numpy(value).tolist(),
    "tuple": lambda value: tuple(_numpy(value)) if _numpy(value).ndim else value,
    "list of arrays": lambda value: list(_numpy(value)) if _numpy(value).ndim else value,
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_right_answer_is_right_in_any_container(module, name, container):
    check, given = recorded(module, name)

    def fn(*arguments):
        value = given["expected"](*arguments)
        return CONTAINERS[container](value) if numbers(value) else value

    assert check(fn).ok, check(fn).message


class Solutions:
    """By the name of their check."""

    discretize_diagonal, scan, kernel, causal, holm = (
        discretize,
        recurrence,
        convolution_kernel,
        causal_convolution,
        holm,
    )

    def half_life(A, delta):
        return math.log(0.5) / (A * delta)

    def tree(a, b):
        n = a.shape[-1]
        weights = [[torch.prod(a[..., s + 1 : t + 1], -1) for s in range(t + 1)] for t in range(n)]
        return torch.stack([sum(w * b[..., s] for s, w in enumerate(row)) for row in weights], -1)

    def memory_length(delta, A):
        total = 0.0
        for k, step in enumerate(delta, start=1):
            total -= A * step
            if total >= 1:
                return k
        return len(delta)

    def time_step(delta):
        return delta + torch.log(-torch.expm1(-delta))

    def already_read(side, row, column):
        return torch.arange(side * side).view(side, side) <= row * side + column

    def heard_pairs(n):
        forward = np.tri(n, dtype=bool)
        return [int(m.sum()) for m in (forward, forward @ forward, forward.T @ forward, forward | forward.T)]

    def bim_test(bim):
        """By the parts themselves, read token by token."""
        x = torch.randn(1, 7, bim.channels)
        turned = x.flip(1)
        backward = bim.mamba_backward.mix(bim.norm(turned)).flip(1)
        wanted = bim.out_proj(bim.mamba_forward.mix(bim.norm(x)) + backward)
        return float((bim(torch.cat([x, turned]))[0] - wanted).abs().max()) < 1e-4

    def place_in_window(row, column, k, width):
        return (row // k) * (width // k) + column // k, (row % k) * k + column % k

    def cut_windows(x, k):
        sides = range(0, x.shape[2], k), range(0, x.shape[3], k)
        return torch.stack([m[:, i : i + k, j : j + k].flatten(1).T for m in x for i in sides[0] for j in sides[1]])

    def tokens_apart(window, axis):
        return math.prod(window[axis + 1 :])

    def mates(size, row, column, k, partition):
        same = (lambda a, b: a % k == b % k) if partition == "dilated" else (lambda a, b: a // k == b // k)
        return [[same(i, row) and same(j, column) for j in range(size)] for i in range(size)]

    def reached(size, k, row, column):
        patch = np.arange(size * size).reshape(size // k, k, size // k, k)
        mine = next(i for i in np.ndindex(size // k, size // k) if row * size + column in patch[i[0], :, i[1]])
        later = [i for i in np.ndindex(size // k, size // k) if i >= mine]
        return patch[mine[0], :, mine[1]].size, sum(patch[i[0], :, i[1]].size for i in later), patch.size, 2

    def way(size, window, a, b, pam):
        return 1 if pam or all(p // window == q // window for p, q in zip(a, b)) else math.inf

    def attention_cost(side, pool):
        return side**4 // (side // pool) ** 4

    def windows_for(size, strides, most):
        maps = [np.array(size) // total for total in np.cumprod(strides)]
        return [[k for k in range(1, most + 1) if not (sides % k).any()][-1] for sides in maps]

    def bim_parameters(d):
        e, r = 2 * d, math.ceil(d / 16)
        return 2 * (2 * e * d + 5 * e + e * (r + 32) + e * (r + 1) + 16 * e + e) + e * d + 2 * d

    def supervision_weights(n):
        weights = [0.5**i for i in range(n - 1)] + [0.0]
        return [w / sum(weights) for w in weights]

    def image_multiple(strides, windows):
        return math.lcm(*(total * window for total, window in zip(np.cumprod(strides).tolist(), windows)))

    def to_mm(affine, indices):
        return np.stack([(affine @ [*index, 1.0])[:3] for index in indices])

    def translate(label, source, target):
        names = {number: name for name, number in source.items()}
        return np.vectorize(lambda v: target.get(names.get(v), 0))(label)

    def slice_gap(gap, spacing):
        return max(0, math.ceil(gap / spacing) - 1)

    def box_dice(size, shift):
        return math.prod(max(0, s - abs(d)) / s for s, d in zip(size, shift))

    def same_length(side, k):
        return len(range(0, side, k))

    def order_agreement(ours, theirs):
        return kendalltau(ours, theirs).statistic

    def paired(a, b):
        both = ~(np.isnan(a) | np.isnan(b))
        return (a[both] - b[both]).sum() / both.sum()

    def interval(differences, draws):
        means = sorted(sum(differences[i] for i in row) / len(row) for row in draws)
        return np.quantile(means, 0.025), np.quantile(means, 0.975)

    def tokens(side, k, partition):
        return (k if partition == "contiguous" else side // k) ** 2

    def field_side(kernels, strides):
        return 1 + sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels))

    def erf_by_hand(layer, x, row, column):
        x = x.clone().requires_grad_()
        layer(x).sum(1)[0, row, column].backward()
        return x.grad[0].abs().sum(0)

    def area_holding(values, share):
        need, count = share * values.sum(), 0
        for value in sorted(values.flatten().tolist(), reverse=True):
            need, count = need - value, count + 1
            if need <= 1e-6:
                break
        return count / values.numel()

    def window_share(values, row, column, k):
        rows, columns = torch.arange(values.shape[0]), torch.arange(values.shape[1])
        inside = (rows // k == row // k)[:, None] & (columns // k == column // k)
        own = values[row, column]
        return (values[inside].sum() - own) / (values.sum() - own)

    def patch_tokens(size, patch):
        return len(list(np.ndindex(*(n // patch for n in size))))

    def conv_parameters(channels_in, channels_out, kernel):
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[len(kernel)](channels_in, channels_out, kernel)
        return sum(p.numel() for p in conv.parameters())

    def in_spreads(a, b, spread, seeds):
        return abs(a - b) / np.hypot(spread / np.sqrt(seeds), spread / np.sqrt(seeds))

    def residues(x, p):
        """Not by %: by asking the library's dilated cut where each pixel went."""
        height, width = x.shape[2:]
        index = to_tokens(torch.arange(height * width).reshape(1, 1, height, width), p, "dilated")[..., 0]
        sequence = torch.empty(height * width, dtype=torch.long)
        sequence[index] = torch.arange(len(index))[:, None].expand_as(index)
        return sequence.reshape(height, width)

    def three_readings(side, k):
        x = torch.empty(1, 1, side, side)
        return [to_tokens(x, k, partition).shape[1] for partition in ("contiguous", "dilated", "count")]

    def fallback(size, strides, sides):
        totals = np.cumprod(strides)
        return [i for i, (t, p) in enumerate(zip(totals, sides)) if (np.array(size) // t % p).any()]

    def translated(label, source, target):
        table = np.zeros(max(source.values()) + 1, dtype=int)
        for name, number in target.items():
            table[source[name]] = number
        return table[label]

    def chance(difference, sd):
        return 2 * norm.sf(difference, scale=sd * 2**0.5)

    def window_mm(window, strides, spacing):
        return tuple(w * math.prod(s[i] for s in strides) * mm for i, (w, mm) in enumerate(zip(window, spacing)))

    def tiles(size, window, overlap):
        return math.prod(1 if n <= w else math.ceil((n - w) / int(w * (1 - overlap))) + 1 for n, w in zip(size, window))

    def mirrored(network, image):
        return (network(image) + network(image.flip(2)).flip(2)) / 2

    def logits_gib(size, classes):
        return math.prod(size) * classes * 4 / 2**30

    def gpu_hours(epochs, iterations, batch, rate):
        return epochs * iterations * batch / rate / 3600

    def trainings(studies, folds, seeds):
        return len({name for one in studies for name in one}) * folds * seeds

    def seeds_needed(difference, spread):
        return max(2, math.ceil(2 * (2.8 * spread / difference) ** 2 - 1e-12))

    def leaked(train, test, person):
        return len([name for name in test if any(person[name] == person[other] for other in train)])

    def pair_gap(alike, person):
        pairs = [(i, j) for i in range(len(person)) for j in range(i)]
        one, two = ([alike[i, j] for i, j in pairs if (person[i] == person[j]) == same] for same in (True, False))
        return sum(one) / len(one) - sum(two) / len(two)

    def case_dsc(prediction, truth):
        wrong, right = (prediction ^ truth).sum(), (prediction & truth).sum()
        return 2 * right / (2 * right + wrong)

    def worst(scores, n):
        means = {name: np.mean([v for v in row if v == v]) for name, row in scores.items()}
        return [min(means, key=means.get)] if n == 1 else sorted(means, key=means.get)[:n]

    def snake(height, width):
        return [i * width + (width - 1 - j if i % 2 else j) for i in range(height) for j in range(width)]

    def cross_scan(x, scan):
        """By the pixel numbers of each walk."""
        c, height, width = x.shape
        rows = torch.arange(height * width)
        out = torch.zeros(c, height * width)
        for walk in (
            rows,
            rows.flip(0),
            rows.view(height, width).T.flatten(),
            rows.view(height, width).T.flatten().flip(0),
        ):
            out[:, walk] += scan(x.flatten(1)[:, walk])
        return out.view(x.shape)

    def never_joined(size, strides, row, column):
        step = math.gcd(*strides)
        return [[i % step != row % step or j % step != column % step for j in range(size)] for i in range(size)]

    def ssd_attention(x, delta, A, B, C):
        y = torch.zeros_like(x)
        for t in range(len(x)):
            for s in range(t + 1):
                y[t] += (C[t] @ B[s]) * torch.exp(A * delta[s + 1 : t + 1].sum()) * delta[s] * x[s]
        return y

    def empty_organs(dsc):
        return np.where(np.isnan(dsc), 1.0, dsc).mean(), dsc[~np.isnan(dsc)].mean()


SOLVED = [(m, n) for m, n in NAMES if hasattr(Solutions, n.removeprefix("check_"))]


@pytest.mark.parametrize(("module", "name"), SOLVED)
def test_a_solution_found_in_another_way_passes(module, name):
    check, solution = recorded(module, name)[0], getattr(Solutions, name.removeprefix("check_"))
    assert check(solution).ok, check(solution).message


def test_nearly_every_check_is_held_against_a_second_solution():
    missing = {module for module, _ in NAMES} - {module for module, _ in SOLVED}
    assert missing == {"checks_start", "checks_training"}, "those are solved in chapters 00 and 08 only"
    assert len(SOLVED) == len([name for name in vars(Solutions) if not name.startswith("_")])


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_what_is_no_answer_is_refused_kindly(module, name):
    check = recorded(module, name)[0]
    for unsolved in (lambda *a: None, lambda *a: ..., lambda *a: 1 / 0, lambda *a: torch.zeros(2, 3), ...):
        result = check(unsolved)
        assert not result.ok and result.message
    assert check(lambda *a: None).message == "… your answer: not yet."


def test_the_exercise_on_labels_agrees_with_the_library():
    amos = {organ.name: organ.amos for organ in ORGANS} | {"bladder": 14, "prostate/uterus": 15}
    kit = {organ.name: organ.label for organ in ORGANS}
    np.testing.assert_array_equal(Solutions.translated(np.arange(16), amos, kit), to_kit_ids(np.arange(16), "amos"))


class Slipped:
    """The library's layer with another forward."""

    def __init__(self, layer, forward):
        self.layer, self.slip = layer, forward

    def __getattr__(self, name):
        return getattr(self.layer, name)

    def __call__(self, x):
        return self.slip(self.layer, x)


@pytest.mark.parametrize("name", first(CLASSES, few=3))
def test_a_slip_in_a_class_gets_its_own_advice_and_the_library_s_passes(name):
    check, given = recorded(CLASSES[name], name)
    library = given["expected"]
    how = {option: value for option, value in given.items() if option != "expected"}
    assert check_class(library, library, **how).ok
    assert len(given["mistakes"]) >= 4
    for slip, advice in given["mistakes"]:
        result = check_class(lambda *a, slip=slip: Slipped(library(*a), slip), library, **how)
        assert not result.ok and advice in result.message, f"{result.message} instead of: {advice}"
    for unsolved in (None, ...):
        assert check(unsolved).message == "… your answer: not yet."


def test_a_network_without_its_blocks_is_not_begun_and_one_without_the_last_is_told_so():
    class Half(UNet):
        def __init__(self, *channels, windows, last=0, **sizes):
            super().__init__(*channels, **sizes)
            if last:
                blocks = [LMBlock(c, k) for c, k in zip(self.features, windows)]
                self.encoder.mixers = nn.ModuleList([*blocks[:-1], nn.Identity()])

    assert course.check_network(Half).message == "… Half: not yet."
    said = course.check_network(functools.partial(Half, last=1)).message
    assert "lacks encoder.mixers.1.pam.bim.mamba_backward.A_log" in said and "bottleneck" in said


class MyMamba(nn.Module):
    def __init__(self, channels):
        super().__init__()
        whole = Mamba(channels)
        for name, part in [*whole.named_children(), *whole.named_parameters(recurse=False)]:
            setattr(self, name, part)
        self.sizes = [whole.dt_rank, whole.d_state, whole.d_state]

    def forward(self, tokens):
        x, z = self.in_proj(tokens).mT.chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        narrow, B, C = self.x_proj(x.mT).split(self.sizes, dim=-1)
        delta = F.softplus(self.dt_proj(narrow)).mT
        A, z = -torch.exp(self.A_log), z.clone()
        return self.out_proj(selective_scan(x, delta, A, B.mT, C.mT, D=self.D, z=z).mT)


class NoGate(MyMamba):
    def forward(self, tokens):
        x, _ = self.in_proj(tokens).mT.chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        narrow, B, C = self.x_proj(x.mT).split(self.sizes, dim=-1)
        y = selective_scan(x, F.softplus(self.dt_proj(narrow)).mT, -torch.exp(self.A_log), B.mT, C.mT, D=self.D)
        return self.out_proj(y.mT)


class OtherName(MyMamba):
    def __init__(self, channels):
        super().__init__(channels)
        self.conv = self.conv1d
        del self.conv1d


class NoLogarithm(MyMamba):
    def __init__(self, channels):
        super().__init__(channels)
        self.A_log.data.exp_()


class Began(nn.Module):
    def __init__(self, channels):
        super().__init__()


class NoForward(MyMamba):
    def forward(self, tokens):
        return None


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (MyMamba, "✓ MyMamba: all 2 cases agree."),
        (NoGate, "multiply by SiLU(z)"),
        (OtherName, "lacks conv1d.bias (16,), conv1d.weight (16, 1, 4); has conv.bias (16,), conv.weight (16, 1, 4)"),
        (NoLogarithm, "the logarithm of 1, ..., n"),
        (Began, "… Began: not yet."),
        (NoForward, "… NoForward: not yet."),
        (None, "… your answer: not yet."),
    ],
)
def test_a_mamba_of_one_s_own_is_checked_in_stages(cls, said):
    result = course.check_mamba(cls)
    assert said in result.message and result.ok == (cls is MyMamba)
