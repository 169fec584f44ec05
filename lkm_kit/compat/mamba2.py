"""mamba_ssm's Mamba2 layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lkm_kit import ssm
from lkm_kit.compat.refuse import refuse


class Mamba2(ssm.Mamba2):
    """Mamba-2's layer with mamba_ssm's arguments and parameter names.

    Args:
        d_model, ..., chunk_size: see :class:`lkm_kit.ssm.Mamba2`.
        use_mem_eff_path: there a choice between two ways to the same numbers; here there is one.
        layer_idx: kept as an attribute: it numbers the layers of a cache for decoding, which there is not.
        process_group: refused, as a layer that several processes share is; ``sequence_parallel`` belongs to it.
        device, dtype: of the parameters; D stays float32.

    Shapes: tokens (batch, length, d_model) → same; with ``seqlen`` (batch * seqlen, d_model) → same.

    Raises:
        KitError: ``process_group``, ``seq_idx``, ``cu_seqlens`` or ``inference_params``.

    Source: ``mamba_ssm/modules/mamba2.py``. Deviation: random start values come in another order, so that a seed gives
    other weights.

    >>> Mamba2(64, d_state=16, headdim=32)(torch.zeros(1, 5, 64)).shape
    torch.Size([1, 5, 64])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: float = 2,
        headdim: int = 64,
        d_ssm: int | None = None,
        ngroups: int = 1,
        A_init_range: Sequence[float] = (1, 16),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: Sequence[float] = (0.0, math.inf),
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 256,
        use_mem_eff_path: bool = True,
        layer_idx: int | None = None,
        process_group: object | None = None,
        sequence_parallel: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if process_group is not None:
            refuse("Mamba2", "process_group", "train data-parallel: every process has the whole layer")
        super().__init__(
            d_model, d_state, d_conv, conv_init, expand, headdim, d_ssm, ngroups, A_init_range, D_has_hdim, rmsnorm,
            norm_before_gate, dt_min, dt_max, dt_init_floor, dt_limit, bias, conv_bias, chunk_size,
        )  # fmt: skip
        self.use_mem_eff_path, self.layer_idx, self.sequence_parallel = use_mem_eff_path, layer_idx, sequence_parallel
        self.to(device=device, dtype=dtype)
        self.D.data = self.D.data.float()
        for parameter in (self.dt_bias, self.A_log, self.D):
            parameter._no_weight_decay = True

    def forward(
        self,
        u: Tensor,
        seqlen: int | None = None,
        seq_idx: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        inference_params: object | None = None,
    ) -> Tensor:
        """(batch, length, d_model) → same; with ``seqlen`` (batch * seqlen, d_model) → same."""
        for name, given in {"seq_idx": seq_idx, "cu_seqlens": cu_seqlens, "inference_params": inference_params}.items():
            if given is not None:
                refuse("Mamba2", name, "pass whole sequences of one length, each in a row of its own")
        tokens = u if seqlen is None else u.unflatten(0, (-1, seqlen))
        y = super().forward(tokens)
        return y if seqlen is None else y.flatten(0, 1)
