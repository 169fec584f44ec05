"""mamba_ssm's Mamba layer, and the bidirectional ones of its forks in Vim, U-Mamba's relatives and SegMamba."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lkm_kit import ssm
from lkm_kit.compat.refuse import refuse
from lkm_kit.compat.scan import mamba_inner_fn_no_out_proj
from lkm_kit.errors import KitError, one_of

_TYPES = {"none": (), "v2": ("_b",), "v3": ("_b", "_s")}


class Mamba(ssm.Mamba):
    """Mamba's layer with mamba_ssm's arguments and parameter names.

    Args:
        d_model, d_state, d_conv, expand, dt_rank: see :class:`lkm_kit.ssm.Mamba`; ``expand`` may be a fraction.
        dt_min, dt_max, dt_init_floor: Δ starts log-uniform between the first two, and not below the third.
        dt_init, dt_scale: "random" or "constant" start values of Δ's projection, times ``dt_scale``.
        conv_bias, bias: whether the convolution, and the input and output projections have biases.
        use_fast_path: there a choice between two ways to the same numbers; here there is one.
        layer_idx: kept as an attribute: it numbers the layers of a cache for decoding, which there is not.
        device, dtype: of the parameters; A and D stay float32.
        bimamba_type: "none"; "v2" adds a scan from the last token to the first with parameters of its own (``A_b_log``,
            ``conv1d_b``, ...); "v3" adds to that one over interleaved slices (``A_s_log``, ...). The results are added
            before one output projection.
        nslices: of "v3" (default 5): the sequence is cut into as many slices, which are read in turns: first tokens of
            all slices, second tokens, ... It must divide the length.
        if_divide_out, if_devide_out: halve the sum of "v2" (Vim's two spellings).
        init_layer_scale: None, or the start value of a scale for every channel of the output, ``gamma``.

    Shapes: tokens (batch, length, d_model) → same.

    Raises:
        KitError: a ``bimamba_type``, ``dt_init`` or combination that is not there; ``inference_params``; a length that
            ``nslices`` does not divide.

    Source: ``mamba_ssm/modules/mamba_simple.py`` of mamba_ssm, of Vim ("v2") and of SegMamba ("v3"). Deviation: random
    start values come in another order, so that a seed gives other weights. The second and third Δ biases start as
    torch's layers do, as in the forks.

    >>> layer = Mamba(8, bimamba_type="v3", nslices=3)
    >>> layer(torch.zeros(1, 6, 8)).shape, layer.A_s_log.shape
    (torch.Size([1, 6, 8]), torch.Size([16, 16]))
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        bimamba_type: str | None = "none",
        nslices: int | None = None,
        if_divide_out: bool = False,
        if_devide_out: bool = False,
        init_layer_scale: float | None = None,
    ):
        super().__init__(d_model, d_state, d_conv, expand, dt_rank)
        self.expand, self.use_fast_path, self.layer_idx = expand, use_fast_path, layer_idx
        self.bimamba_type = "none" if bimamba_type is None else bimamba_type
        more = _TYPES[one_of(self.bimamba_type, _TYPES, "bimamba_type")]
        if nslices is not None and self.bimamba_type != "v3":
            refuse("Mamba", f"nslices with bimamba_type={self.bimamba_type!r}", "slices belong to bimamba_type='v3'")
        self.nslices = 5 if nslices is None and self.bimamba_type == "v3" else nslices
        self.halve = bool(if_divide_out or if_devide_out)
        if self.halve and self.bimamba_type != "v2":
            refuse("Mamba", f"if_divide_out with bimamba_type={self.bimamba_type!r}", "it belongs to bimamba_type='v2'")
        self._start(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)
        if bias:
            self.in_proj = nn.Linear(d_model, 2 * self.d_inner)
            self.out_proj = nn.Linear(self.d_inner, d_model)
        for suffix in ("", *more):
            self._add_direction(suffix, conv_bias)
        self.init_layer_scale = init_layer_scale
        if init_layer_scale is not None:
            self.gamma = nn.Parameter(init_layer_scale * torch.ones(d_model))
        self.to(device=device, dtype=dtype)
        kept = [getattr(self, f"{name}{suffix}") for suffix in ("", *more) for name in ("D",)]
        kept += [getattr(self, f"A{suffix}_log") for suffix in ("", *more)]
        for parameter in kept:
            parameter.data = parameter.data.float()
            parameter._no_weight_decay = True
        self.dt_proj.bias._no_reinit = True

    @torch.no_grad()
    def _start(self, dt_min: float, dt_max: float, dt_init: str, dt_scale: float, floor: float) -> None:
        self._init_state_space(dt_min, dt_max, floor)
        if one_of(dt_init, ("random", "constant"), "dt_init") == "constant":
            self.dt_proj.weight.fill_(self.dt_rank**-0.5)
        self.dt_proj.weight.mul_(dt_scale)

    def _add_direction(self, suffix: str, conv_bias: bool) -> None:
        d, n, K, rank = self.d_inner, self.d_state, self.d_conv, self.dt_rank
        if suffix or not conv_bias:
            convolution = nn.Conv1d(d, d, K, groups=d, padding=K - 1, bias=conv_bias)
            self.add_module(f"conv1d{suffix}", convolution)
        if suffix:
            self.add_module(f"x_proj{suffix}", nn.Linear(d, rank + 2 * n, bias=False))
            self.add_module(f"dt_proj{suffix}", nn.Linear(rank, d))
            self.register_parameter(f"A{suffix}_log", nn.Parameter(self.A_log.detach().clone()))
            self.register_parameter(f"D{suffix}", nn.Parameter(torch.ones(d)))

    def forward(self, hidden_states: Tensor, inference_params: object | None = None) -> Tensor:
        """(batch, length, d_model) → same."""
        if inference_params is not None:
            refuse("Mamba", "inference_params", "pass whole sequences; decoding token by token is not here")
        if self.bimamba_type == "none":
            y = super().forward(hidden_states)
        else:
            xz = self.in_proj(hidden_states).transpose(1, 2)
            mixed = self._inner(xz, "") + self._inner(xz.flip(-1), "_b").flip(-1)
            if self.bimamba_type == "v3":
                mixed = mixed + self._sliced(xz)
            y = self.out_proj((mixed / 2 if self.halve else mixed).transpose(1, 2))
        return y if self.init_layer_scale is None else y * self.gamma

    def _inner(self, xz: Tensor, suffix: str) -> Tensor:
        conv1d, x_proj, dt_proj = (getattr(self, f"{name}{suffix}") for name in ("conv1d", "x_proj", "dt_proj"))
        A, D = -torch.exp(getattr(self, f"A{suffix}_log").float()), getattr(self, f"D{suffix}").float()
        weights = conv1d.weight, conv1d.bias, x_proj.weight, dt_proj.weight
        return mamba_inner_fn_no_out_proj(xz, *weights, A, D=D, delta_bias=dt_proj.bias.float())

    def _sliced(self, xz: Tensor) -> Tensor:
        length = xz.shape[-1]
        if length % self.nslices:
            raise KitError(
                f"a sequence of {length} tokens cannot be cut into nslices={self.nslices} slices",
                remedy="choose an image size that gives a multiple, as SegMamba does with 128 voxels a side",
            )
        turns = xz.unflatten(-1, (self.nslices, -1)).transpose(-1, -2).flatten(-2)
        return self._inner(turns, "_s").unflatten(-1, (-1, self.nslices)).transpose(-1, -2).flatten(-2)
