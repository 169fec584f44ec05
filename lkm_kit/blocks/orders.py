"""Orders: which pixels of a map form a sequence, and in which order a sequence is read.

An order is a function ``(spatial, window) -> (sequences, length)`` of pixel numbers, counted row by row, each pixel
named once. :data:`ORDERS` holds them by name; what is entered there serves ``to_tokens``, PiM, the networks, their
tables, widgets and studies, in 2D and 3D::

    def columns(spatial, window):
        return ORDERS["contiguous"](spatial, window).reshape(-1, *window).transpose(1, -1).flatten(1)

    ORDERS["columns"] = columns

Three of them are the three readings of the paper's "kernel size". A map is cut per axis into groups. The readings
differ in which number is fixed, and in which of the two indices runs inside a sequence:

==================  =======================  ==========================================================
order               ``window`` is            one sequence is
==================  =======================  ==========================================================
"contiguous"        the side k of a window   a window of neighbouring pixels (the paper's text, Section 3.2)
"dilated"           the stride k of a grid   every k-th pixel, over the whole map (the released code; atrous scans)
"count"             the number n of windows  a window of side H/n (the authors' answer to a reader)
"shuffled"          the side k of a window   a window, its pixels in one fixed random order (a control)
"first-axis"        the side k of a window   a window along its first axis: columns, or through the slices
"second-axis"       the side k of a window   a window of a volume along its second axis
"snake"             the side k of a window   a window row by row, every second row backwards
"diagonal"          the side k of a window   a window diagonal by diagonal, in zigzag
"hilbert"           the side k of a window   a window along Hilbert's curve
"local"             the side k of a window   the whole map, one window after the other (LocalMamba)
"local-first-axis"  the side k of a window   the same along the first axis, windows and pixels alike
==================  =======================  ==========================================================

Inside a sequence the pixels follow row by row (last axis fastest) where nothing else is said; sequences are ordered the
same way. A window as large as the map makes every one of them the scan of a whole map: "contiguous" is then the raster
scan. :mod:`lkm_kit.blocks.readings` holds those that read a window in another way, with their sources.
:data:`lkm_kit.blocks.DIRECTIONS` puts several orders together: cross-scan, three axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from einops import rearrange
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from lkm_kit.blocks import readings
from lkm_kit.errors import KitError, one_of
from lkm_kit.shapes import nearest_text, per_axis, size_text
from lkm_kit.ssm.mamba import check_order

Size = tuple[int, ...]
Order = Callable[[Size, Size], Tensor]


@dataclass(frozen=True, eq=False)
class Rearranged:
    """An order that is one line of einops, which is faster than a table.

    Capital letters number the sequences, small ones the pixels of a sequence; ``window`` gives the sizes of one kind.
    """

    maps: dict[int, str]  # by the number of spatial axes
    tokens: dict[int, str]
    window_is: str  # "dhw" or "DHW"
    unit: str  # what messages call a window

    def __call__(self, spatial: Size, window: Size) -> Tensor:
        return self.cut(torch.arange(prod(spatial), device="cpu").reshape(1, 1, *spatial), window)[..., 0]

    def cut(self, x: Tensor, window: Size) -> Tensor:
        """(b, c, *spatial) → (b * sequences, length, c)."""
        dims = len(window)
        return rearrange(x, f"{self.maps[dims]} -> {self.tokens[dims]}", **self.sizes(x.shape[2:], window))

    def put(self, tokens: Tensor, spatial: Size, window: Size) -> Tensor:
        """The inverse of :meth:`cut`."""
        dims = len(window)
        return rearrange(tokens, f"{self.tokens[dims]} -> {self.maps[dims]}", **self.sizes(spatial, window))

    def sizes(self, spatial: Size, window: Size) -> dict[str, int]:
        """Size of every letter."""
        other = [size // k for size, k in zip(spatial, window)]
        return dict(zip(self.window_is[-len(window) :] + self.window_is.swapcase()[-len(window) :], [*window, *other]))


_TOKENS = {2: "(b H W) (h w) c", 3: "(b D H W) (d h w) c"}
# The paper's text and the released code differ in two letters: "(H h) (W w)" is windows of neighbours,
# "(h H) (w W)" every H-th pixel of the map.
_WINDOWS = {2: "b c (H h) (W w)", 3: "b c (D d) (H h) (W w)"}
_GRIDS = {2: "b c (h H) (w W)", 3: "b c (d D) (h H) (w W)"}


@dataclass(frozen=True)
class Reading:
    """An order of contiguous windows that are read in another way: (sides of a window) → its pixels, each once.

    >>> Reading(readings.first_axis)((2, 4), (2, 2)).tolist()
    [[0, 4, 1, 5], [2, 6, 3, 7]]
    """

    read: Callable[[Size], Tensor]

    def __call__(self, spatial: Size, window: Size) -> Tensor:
        return ORDERS["contiguous"](spatial, window)[:, self.read(window)]


def local(spatial: Size, window: Size) -> Tensor:
    """One sequence over the whole map that reads one window after the other.

    Source: LocalMamba's local scan (Huang et al. 2024, Section 4.1; ``local_scan.py``). Deviation: one size of window.
    The released code gives each layer four of eight scans, which a search has found: rows, columns, windows of 2 and
    of 7 pixels, each both ways.

    >>> local((2, 4), (2, 2)).tolist()
    [[0, 1, 4, 5, 2, 3, 6, 7]]
    """
    return ORDERS["contiguous"](spatial, window).reshape(1, -1)


def local_first_axis(spatial: Size, window: Size) -> Tensor:
    """:func:`local` along the first axis: windows column by column, and inside them pixels column by column.

    In LocalMamba's released code an option of the local scan, which none of its networks uses.

    >>> local_first_axis((4, 2), (2, 2)).tolist()
    [[0, 2, 1, 3, 4, 6, 5, 7]]
    """
    pixels = torch.arange(prod(spatial), device="cpu").reshape(1, 1, *spatial).movedim(2, -1)
    return CONTIGUOUS.cut(pixels, (*window[1:], window[0])).reshape(1, -1)


CONTIGUOUS = Rearranged(_WINDOWS, _TOKENS, "dhw", "windows")
ORDERS: dict[str, Order] = {
    "contiguous": CONTIGUOUS,
    "dilated": Rearranged(_GRIDS, _TOKENS, "DHW", "grid strides"),
    "count": Rearranged(_WINDOWS, _TOKENS, "DHW", "window counts"),
    "shuffled": Reading(readings.shuffled),
    "first-axis": Reading(readings.first_axis),
    "second-axis": Reading(readings.second_axis),
    "snake": Reading(readings.snake),
    "diagonal": Reading(readings.diagonal),
    "hilbert": Reading(readings.hilbert),
    "local": local,
    "local-first-axis": local_first_axis,
}
"""Every order by its name; enter your own."""


def order_named(name: str) -> Order:
    """The order of this name, or a KitError that lists them.

    >>> order_named("local") is local
    True
    """
    return ORDERS[one_of(name, ORDERS, "partition")]


def unit_of(name: str) -> str:
    """What messages call the window of an order.

    >>> unit_of("dilated"), unit_of("shuffled")
    ('grid strides', 'windows')
    """
    return getattr(order_named(name), "unit", "windows")


def fitting(spatial: Size, window: int | Sequence[int], order: str = "contiguous", where: str = "") -> Size:
    """``window`` with a number for each axis, after checking that it divides the map: what every order asks for.

    Args:
        spatial: size of the map.
        window: one number for all axes, or one for each.
        order: a name of :data:`ORDERS`.
        where: put before the message, to say which layer of which stage speaks.

    Raises:
        KitError: unknown order, or a map that does not fit, with the nearest sizes that do.

    >>> fitting((8, 12), 4)
    (4, 4)
    """
    unit, window = unit_of(order), per_axis(window, len(spatial), "window")
    if any(size % k for size, k in zip(spatial, window)):
        raise KitError(
            f"{where}{': ' if where else ''}a map of {size_text(spatial)} cannot be cut: it is not divided by {unit} "
            f"of {size_text(window)}",
            remedy=f"nearest map sizes that fit: {nearest_text(spatial, window)}; or pad=True, which pads and crops",
        )
    return window


def window_sides(spatial: Size, window: int | Sequence[int], order: str = "contiguous", where: str = "") -> Size:
    """Side of a window (or stride of a dilated grid) per axis, in pixels; arguments and errors of :func:`fitting`.

    >>> window_sides((320, 320), 40, "count")
    (8, 8)
    """
    window = fitting(spatial, window, order, where)
    return tuple(size // n for size, n in zip(spatial, window)) if order == "count" else window


def sequences_of(spatial: Size, window: Size, order: str) -> tuple[int, int]:
    """Number of sequences and their length, for a window that divides the map.

    >>> sequences_of((8, 8), (2, 4), "dilated"), sequences_of((8, 8), (2, 2), "shuffled")
    ((8, 8), (16, 4))
    """
    rule = order_named(order)
    if not isinstance(rule, Rearranged):
        sizes = tuple(int(size) for size in spatial)  # a tracer's unknown size becomes the one of this call
        sequences, length = order_table(sizes, window, order).shape
        return sequences, length
    length = prod([size for letter, size in rule.sizes(spatial, window).items() if letter.islower()])
    return prod(spatial) // length, length


def order_table(spatial: Size, window: Size, order: str, device: torch.device | str = "cpu") -> Tensor:
    """The pixel numbers of an order, for scans and layers that look pixels up.

    Args:
        spatial, window: sizes that fit each other.
        order: a name of :data:`ORDERS`.
        device: where the table is needed.

    Returns:
        (sequences, length) int32. Tables are kept for the next call and shared: do not write into them.

    Raises:
        KitError: the order's function does not name every pixel once.

    >>> order_table((2, 4), (2, 2), "contiguous").tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    device = torch.device(device)
    # A tracer sees one operator: it need not understand the order, and its tensors are not kept for the next call.
    if torch.compiler.is_compiling() or type(torch.empty(0)) is not Tensor:
        return torch.ops.lkm_kit.order_table(spatial, window, order, device)
    return _table(tuple(spatial), tuple(window), order, order_named(order), device)


@lru_cache(maxsize=64)
def _table(spatial: Size, window: Size, name: str, order: Order, device: torch.device) -> Tensor:
    # a table made in inference mode could not be saved for a backward pass later
    with torch.inference_mode(False), torch.device("cpu"):  # whatever the default device is
        table = torch.as_tensor(order(spatial, window)).to(device, torch.int32).contiguous()
        check_order(table, prod(spatial), f"order {name!r}")
    return table


@torch.library.custom_op("lkm_kit::order_table", mutates_args=())
def _operator(spatial: Sequence[int], window: Sequence[int], order: str, device: torch.device) -> Tensor:
    return _table(tuple(spatial), tuple(window), order, order_named(order), device).clone()


@_operator.register_fake
def _(spatial, window, order, device):
    with _disable_current_modes():  # to count the sequences of an order that has no formula
        shape = sequences_of(spatial, window, order)
    return torch.empty(shape, dtype=torch.int32, device=device)
