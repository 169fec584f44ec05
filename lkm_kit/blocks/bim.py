"""BiM, bidirectional Mamba: a forward and a backward scan over the same tokens, added (paper Section 3.2, Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lkm_kit.blocks.orders import fitting, order_named, order_table
from lkm_kit.devices import without_autocast
from lkm_kit.errors import KitError, one_of
from lkm_kit.shapes import spatial_size
from lkm_kit.ssm import Mamba, mix
from lkm_kit.ssm.mamba import as_built
from lkm_kit.ssm.selective_scan import choose_backend

BOTH_WAYS = ((None, False), (None, True))
DIRECTIONS: dict[str, tuple[tuple[str | None, bool], ...]] = {
    "both-ways": BOTH_WAYS,
    "cross-scan": (*BOTH_WAYS, ("first-axis", False), ("first-axis", True)),
    "tri-orientated": (*BOTH_WAYS, ("first-axis", False)),
    "three-axes": tuple((order, back) for order in (None, "first-axis", "second-axis") for back in (False, True)),
    "local": tuple((order, back) for order in ("local", "local-first-axis") for back in (False, True)),
}
"""Sets of directions by name, for ``directions=``; enter your own. Every direction has a Mamba of its own.

* "both-ways": BiM as in the paper.
* "cross-scan": rows and columns, both ways (VMamba's SS2D, Liu et al. 2024, Section 4.2). Deviation: there the four
  share a projection in, a convolution of the map and the gate. Before the gate their sum is normalised (later versions
  have no gate). Here each Mamba has its own.
* "tri-orientated": forward, backward and through the slices of a volume (SegMamba, Xing et al. 2024).
  Deviation: in a window of PiM or the map of PaM, not always the whole volume; a Mamba has its own projection in.
* "three-axes": all axes of a volume, both ways (the Tri-scan of arXiv 2503.19308; ``mamba_3d_tri.py``). Deviation:
  theirs reads each axis forward only, three scans that share a projection in; here they are six Mambas.
* "local": window after window along both axes, both ways (LocalMamba, Huang et al. 2024, Section 4.1). Deviation: see
  :func:`lkm_kit.blocks.orders.local`; each Mamba has its own projection in.
"""


class BiM(nn.Module):
    """Read the tokens in both directions, so that every token sees all others: LayerNorm, two Mambas, one projection.

    y = W_out (mix_forward(LN(t)) + mix_backward(LN(t))), where the backward Mamba has parameters of its own and runs
    from the last token to the first. With ``bidirectional=False`` the backward Mamba does not exist and
    y = W_out mix_forward(LN(t)), which is LayerNorm followed by one ordinary Mamba.

    Args:
        channels: of the tokens.
        bidirectional: False leaves out the directions that are reversed.
        directions: a pair (order, reverse) for each Mamba; ``order`` is a name of :data:`lkm_kit.blocks.ORDERS`, or
            None for the one in which PiM or PaM cuts its tokens. Or a name of :data:`DIRECTIONS`: "cross-scan" is
            ``[(None, False), (None, True), ("first-axis", False), ("first-axis", True)]``.
        d_state, d_conv, expand: of all Mambas.
        backend: of the scan, see :func:`lkm_kit.ssm.selective_scan`.

    Shapes: tokens (batch, length, channels) → same. There is no residual connection here; PiM and PaM add it.

    Precision: computed in the parameters' dtype (float32 in practice) under any autocast, as the released layers are.
    The same holds for the mixers' gradients; those of ``norm`` and ``out_proj``, ordinary layers of torch, are rounded
    where ``backward()`` is called inside autocast, as torch advises against.

    Source: paper Section 3.2; ``BiPixelMambaLayer`` in the released LKMUNet.py. The paper only says that the two
    outputs are added; that they share one output projection, applied to the sum, is in the code. Deviation: the
    backward scan runs by index, without the code's two flipped copies; the result is the same.

    >>> import torch
    >>> BiM(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        channels: int,
        bidirectional: bool = True,
        directions: str | Sequence[tuple[str | None, bool]] | None = None,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        backend: str = "auto",
    ):
        super().__init__()
        self.channels, self.backend = channels, backend
        if isinstance(directions, str):
            directions = DIRECTIONS[one_of(directions, DIRECTIONS, "set of directions")]
        wanted = BOTH_WAYS if directions is None else directions
        self.directions = [(order, bool(reverse)) for order, reverse in wanted if bidirectional or not reverse]
        for order, _ in self.directions:
            if order is not None:
                order_named(order)
        if not self.directions or len(set(self.directions)) < len(self.directions):
            raise KitError(
                f"directions {directions}: a direction twice, or none at all",
                remedy="give each pair (order, reverse) once; bidirectional=False takes the reversed ones away",
            )
        self.norm = nn.LayerNorm(channels)
        for direction in self.directions:
            mamba = Mamba(
                channels, d_state=d_state, d_conv=d_conv, expand=expand, backend=backend, out_proj=False
            )  # fmt: skip
            self.add_module(_name(*direction), mamba)
        self.out_proj = nn.Linear(expand * channels, channels, bias=False)

    @property
    def bidirectional(self) -> bool:
        return any(reverse for _, reverse in self.directions)

    @property
    def mambas(self) -> list[Mamba]:
        """One for each direction: ``mamba_forward``, ``mamba_backward``, ``mamba_forward_columns``, ..."""
        return [getattr(self, _name(*direction)) for direction in self.directions]

    def forward(self, x: Tensor, window: int | Sequence[int] | None = None, partition: str = "contiguous") -> Tensor:
        """Tokens (batch, length, channels) → same, or with a window a map (batch, channels, *spatial) → same.

        Args:
            x: tokens or map.
            window, partition: as in :func:`lkm_kit.blocks.to_tokens`; ``partition`` is the order of the directions
                that name none.

        On a map nothing is cut out where the ``triton`` backend serves: whatever concerns single pixels runs where
        they lie. One copy can remain: LayerNorm brings a map that is not channels_last into rows of channels.
        """
        if window is None:
            self._check_tokens(x)
            spatial, tokens = (), x
        else:
            spatial = spatial_size(x)
            window, tokens = fitting(spatial, window, partition), x.flatten(2).transpose(1, 2)
        # fp16 activations overflow inside the scan; the released layers leave autocast for the same reason.
        with without_autocast(x.device):
            normed = self.norm(tokens.to(self.norm.weight.dtype))
            total = order = None
            for name in dict.fromkeys(order for order, _ in self.directions):
                chosen = [i for i, (order, _) in enumerate(self.directions) if order == name]
                # the whole map row by row is how the pixels lie
                if window is not None and (window, name or partition) != (spatial, "contiguous"):
                    order = order_table(spatial, window, name or partition, x.device)
                reverse = [self.directions[i][1] for i in chosen]
                part = mix([self.mambas[i] for i in chosen], normed, reverse, order)
                total = part if total is None else total + part
            y = self.out_proj(total)
        return y if window is None else y.transpose(1, 2).unflatten(2, spatial)

    def reads_maps(self, x: Tensor) -> bool:
        """Whether a map is to be given as a map: for orders of its own, and on the ``triton`` backend.

        There only for BiM itself: a subclass or a hook is there to see the tokens.

        >>> import torch
        >>> BiM(8, backend="reference").reads_maps(torch.zeros(1, 8, 4, 4))
        False
        """
        if any(order is not None for order, _ in self.directions):
            return True
        return as_built(self, BiM) and choose_backend(x.device, self.backend, self.norm.weight.dtype) == "triton"

    def _check_tokens(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[-1] != self.channels:
            raise KitError(
                f"tokens have shape {tuple(x.shape)}; this BiM needs (batch, length, {self.channels})",
                remedy="a feature map goes through lkm_kit.blocks.to_tokens first",
            )
        orders = [order for order, _ in self.directions if order is not None]
        if orders:
            raise KitError(
                f"tokens alone do not say what {orders[0]!r} is: this BiM reads maps in orders of its own",
                remedy="pass a map (batch, channels, *spatial) and its window, as PiM and PaM do",
            )


def _name(order: str | None, reverse: bool) -> str:
    return f"mamba_{'backward' if reverse else 'forward'}{'' if order is None else f'_{order}'}"
