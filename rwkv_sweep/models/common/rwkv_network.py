"""What all generations of RWKV share over packed batches: embedding, blocks one after another, early exit, final norm.

Shapes: T packed tokens, B sentences, D hidden size, V vocabulary size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.gpu_forward import gpu_unsupported
from rwkv_sweep.models.common.interface import Network, Tags
from rwkv_sweep.models.common.layer_handover import InnerReader, OnLayer, OnMean, OnState, RunInner, hand_over
from rwkv_sweep.ops.common.packing import Packed

RunBlocks = Callable[..., Tensor]
"""(blocks, stream [T, D], packed, layers, on_layer, on_state, on_mean) to the stream behind the last of the blocks; of
each block among `layers` it hands over what `RwkvModel.forward` says."""


class RwkvModel(Network):
    """The blocks of an RWKV without the output head: what embeddings need.

    A generation names its blocks and says what runs them.

    Attributes:
        generation: its number.
        plain_wkv: what runs the WKV operator in the plain blocks.
    """

    generation: int
    plain_wkv = "chunked"
    quantizable = True

    def __init__(self, config: Any, blocks: Iterable[nn.Module]) -> None:
        """config: the sizes, with `vocab_size`, `hidden_size`, `num_hidden_layers`, `num_heads`, `head_size` and
        `layer_norm_epsilon`. blocks: the first has `pre_ln`, the norm of the embedding, or None for it."""
        super().__init__()
        self.config = config
        table_VD = torch.empty(config.vocab_size, config.hidden_size)
        # As `nn.Embedding` draws it, but not on the meta device: there `normal_` imports torch._dynamo, for a second.
        if not table_VD.is_meta:
            nn.init.normal_(table_VD)
        self.embeddings = nn.Embedding.from_pretrained(table_VD, freeze=False)
        self.blocks = nn.ModuleList(blocks)
        self.ln_out = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        # Two mistakes of the study, for its reproduction: see `ModelConfig`.
        self.full_depth, self.rescale_every = False, 0

    def forward(
        self,
        input_ids: Tensor,
        packed: Packed,
        layers: Collection[int],
        on_layer: OnLayer,
        on_state: OnState | None = None,
        on_mean: OnMean | None = None,
    ) -> None:
        """See `Network.forward`."""
        run, num_blocks = self.runner(input_ids), len(self.blocks)
        if EMBEDDING in layers:
            hand_over(EMBEDDING, self.embedded(input_ids), packed, on_layer, on_mean)
        if self.rescale_every:
            on_layer, on_mean = _halved(on_layer, on_mean, self.rescale_every, num_blocks)
        # Handed straight on: kept here, the first stream would lie in memory as long as the blocks run.
        blocks = self.blocks[: self.depth(layers)]
        h_TD = run(blocks, self.embedded(input_ids), packed, layers, on_layer, on_state, on_mean)
        if num_blocks in layers:
            hand_over(num_blocks, self.ln_out(h_TD), packed, on_layer, on_mean)

    def inner_forward(
        self, input_ids: Tensor, packed: Packed, layers: Collection[int], source: str, on_layer: OnLayer
    ) -> None:
        """See `Network.inner_forward`. A GPU runs the plain blocks: its kernels keep these vectors to themselves."""
        blocks = self.blocks[: self.depth(layers)]
        reader = InnerReader(source, layers, on_layer)
        self.inner_runner(input_ids)(cast(Sequence[Any], blocks), self.embedded(input_ids), packed, reader)

    def embedded(self, input_ids: Tensor) -> Tensor:
        """The stream [T, D] before the first block, fp32."""
        stream_TD: Tensor = self.embeddings(input_ids).float()
        norm: Any = self.blocks[0].pre_ln
        return stream_TD if norm is None else norm(stream_TD)

    def depth(self, layers: Collection[int]) -> int:
        """Blocks that a forward for these layers runs."""
        return len(self.blocks) if self.full_depth else min(max(layers) + 1, len(self.blocks))

    def tags(self, device: torch.device) -> Tags:
        """See `Network.tags`."""
        tags = {"generation": f"RWKV-{self.generation}", **self.path_tags(device)}
        if self.full_depth:
            tags["full_depth"] = "every layer runs all blocks"
        if self.rescale_every:
            tags["rescale_every"] = f"the stream is handed over halved after each {self.rescale_every} blocks"
        return tags

    def parameter_count(self) -> int:
        """See `Network.parameter_count`."""
        make: Any = type(self)
        with torch.device("meta"):
            blank: RwkvModel = make(self.config)
        return sum(parameter.numel() for parameter in blank.parameters())

    def runner(self, read: Tensor) -> RunBlocks:
        """What runs the blocks on what is on the device of `read`."""
        return self.plain_blocks() if self.runs_plain(read) else self.fused_blocks(read.device)

    def runs_plain(self, read: Tensor) -> bool:
        """Whether the plain blocks run on what is on the device of `read`."""
        blocks = cast(Sequence[nn.Module], self.blocks)
        return forward_choice.why_not(blocks, read, self._head_size) is not None

    @abstractmethod
    def inner_runner(self, read: Tensor) -> RunInner:
        """As `runner`, for `inner_forward`."""

    def path_tags(self, device: torch.device) -> Tags:
        """What runs the blocks and the WKV operator in inference on `device`, for the record."""
        return forward_choice.path_tags(self._head_size, device, self.plain_wkv)

    def capture_obstacle(self, device: torch.device) -> str | None:
        """See `Network.capture_obstacle`."""
        return gpu_unsupported(self._head_size, device)

    def prepare(self, device: torch.device) -> None:
        """Lay the weights as inference on `device` likes them, once they are there in their precision."""
        if device.type == "cuda" and gpu_unsupported(self._head_size, device) is None:
            self.prepare_for_triton()

    @property
    def _head_size(self) -> int:
        return int(cast(Any, self.config).head_size)

    @abstractmethod
    def plain_blocks(self) -> RunBlocks:
        """The blocks in plain PyTorch."""

    @abstractmethod
    def fused_blocks(self, device: torch.device) -> RunBlocks:
        """The same blocks with kernels for a CPU or a GPU between their matrix products."""

    @abstractmethod
    def prepare_for_triton(self) -> None:
        """Lay the weights as the kernels of a GPU read them."""


def _halved(on_layer: OnLayer, on_mean: OnMean | None, every: int, num_blocks: int) -> tuple[OnLayer, OnMean | None]:
    """Receivers that get block k as half-precision code with `rescale_every` has it: halved (k + 1) // every times.

    There weights and stream are halved, so that fp16 stays finite; the norms take the scale out again, but for their
    epsilon. Here the stream is fp32, and only what is handed over is scaled.
    """

    def scale(layer: int) -> float:
        return 0.5 ** ((layer + 1) // every) if 0 <= layer < num_blocks else 1.0

    def layer_scaled(layer: int, h_TD: Tensor) -> None:
        on_layer(layer, h_TD * scale(layer))

    def mean_scaled(layer: int, mean_BD: Tensor) -> None:
        assert on_mean is not None
        on_mean(layer, mean_BD * scale(layer))

    return layer_scaled, None if on_mean is None else mean_scaled
