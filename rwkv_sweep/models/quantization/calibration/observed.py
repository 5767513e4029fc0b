"""What linear layers read while a model runs over the sentences of a calibration.

Shapes: T packed tokens, N outputs, K inputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.quantization.calibration.gptq import gptq_codes
from rwkv_sweep.ops.common.groupwise import GroupCodes
from rwkv_sweep.ops.common.packing import Packed

TOKENS, BATCH_TOKENS, LONGEST = 65_536, 4096, 512
"""Tokens of a calibration at most, of a batch of it, and of a sentence."""
HESSIAN_BYTES = 2**32
"""Memory for the sums of products of as many blocks at a time; one block takes what it takes."""

Batches = Sequence[tuple[Tensor, Packed]]
"""Token ids [T] of each batch, and its sentences."""


class ObservedLinear(nn.Module):
    """A linear layer with fp32 weights that sums the products of its inputs while it is observed.

    Attributes:
        weight: fp32 [N, K].
        hessian_KK: X^T X of the inputs so far; None where it is not observed.
    """

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight.data.to(device, torch.float32)
        self.hessian_KK: Tensor | None = None

    def observe(self) -> None:
        """Begin with sums of zero."""
        self.hessian_KK = self.weight.new_zeros(self.in_features, self.in_features)

    def plain(self) -> nn.Linear:
        """The layer as it was, of the same weights."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        return linear

    def forward(self, input: Tensor) -> Tensor:
        """[..., K] to [..., N] in the dtype of the input, by products in fp32."""
        x = input.float()
        if self.hessian_KK is not None:
            x_TK = x.reshape(-1, self.in_features)
            self.hessian_KK.addmm_(x_TK.t(), x_TK)
        return F.linear(x, self.weight).to(input.dtype)


def token_batches(sentences: Sequence[Sequence[int]], device: torch.device) -> Batches:
    """The first `TOKENS` token ids of sentences in their order, each cut at `LONGEST`, in batches."""
    batches: list[tuple[Tensor, Packed]] = []
    taken: list[Sequence[int]] = []
    total = waiting = 0

    def close() -> None:
        ids_T = torch.tensor([token for ids in taken for token in ids], device=device)
        batches.append((ids_T, Packed.of([len(ids) for ids in taken], device)))

    for ids in sentences:
        ids = ids[:LONGEST]
        if not len(ids) or total + len(ids) > TOKENS:
            continue
        if waiting and waiting + len(ids) > BATCH_TOKENS:
            close()
            taken, waiting = [], 0
        taken.append(ids)
        total, waiting = total + len(ids), waiting + len(ids)
    if taken:
        close()
    return batches


@torch.inference_mode()
def calibrate(
    model: RwkvModel,
    layers: Mapping[int, Mapping[str, ObservedLinear]],
    batches: Batches,
    quantize: Callable[[str, GroupCodes], None],
) -> None:
    """Find the codes of all observed layers, the shallow blocks' first, so that deep ones read what these then give.

    Args:
        model: with `layers` in their places, on its device.
        layers: by block and by name.
        batches: see `token_batches`.
        quantize: puts the layer with these codes into the place of the observed one.
    """
    for blocks in _groups(layers):
        observed = {name: layer for block in blocks for name, layer in layers[block].items()}
        for layer in observed.values():
            layer.observe()
        for ids_T, packed in batches:
            model(ids_T, packed, [max(blocks)], lambda *_: None)
        for name, layer in observed.items():
            assert layer.hessian_KK is not None
            quantize(name, gptq_codes(layer.weight, layer.hessian_KK))
            layer.hessian_KK = None


def _groups(layers: Mapping[int, Mapping[str, ObservedLinear]]) -> Iterator[list[int]]:
    """Blocks in their order, as many at a time as `HESSIAN_BYTES` allow."""
    group: list[int] = []
    size = 0
    for block in sorted(layers):
        needed = sum(4 * layer.in_features**2 for layer in layers[block].values())
        if group and size + needed > HESSIAN_BYTES:
            yield group
            group, size = [], 0
        group.append(block)
        size += needed
    if group:
        yield group
