"""Any other encoder or decoder of `transformers` behind the interface that RWKVs have, as a row to compare with.

Layers are numbered as everywhere here: k is the raw output of block k, read by a hook on the block itself, after which
the forward stops. The library's own `hidden_states` differ from network to network: most give the last block after the
final norm, RWKV-4 leaves the embedding out. They are taken only where a network has no list of its blocks.

Shapes: B sentences, S tokens of the longest, T packed tokens, D hidden size.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.interface import Network, Tags
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, sentence_means
from rwkv_sweep.models.common.shape import EncoderShape
from rwkv_sweep.ops.common.packing import Packed

Take = Callable[[int, Tensor], None]
"""Receives a layer's index and its output [B, S, D]."""
PROBE = ((1, 2, 3), (3, 2, 1, 2, 3, 1, 2))
SAME = 0.999
"""Cosine from which two vectors of one token count as the same: padding that is read moves it far below, dtypes do
not."""


class _DeepEnoughError(Exception):
    """Ends a forward after the deepest layer asked for."""


class HfNetwork(Network):
    """A network of `transformers`, called with packed ids like `Rwkv6Model`.

    Args:
        inner: in eval mode, on its device.
        config: its sizes.
        pad_id: id put behind shorter sentences.
    """

    config: EncoderShape

    def __init__(self, inner: nn.Module, config: EncoderShape, pad_id: int) -> None:
        super().__init__()
        self.inner, self.config, self.pad_id = inner, config, pad_id
        self.takes_mask = "attention_mask" in inspect.signature(inner.forward).parameters

    @cached_property
    def layers(self) -> Sequence[nn.Module] | None:
        """The blocks in order; None where the network has no list of them (ALBERT runs one block many times)."""
        count = self.config.num_hidden_layers
        lists = [
            module for module in self.inner.modules() if isinstance(module, nn.ModuleList) and len(module) == count
        ]
        largest = max(lists, key=_parameters, default=None)
        return cast(Sequence[nn.Module] | None, largest)

    @cached_property
    @torch.inference_mode()
    def pads(self) -> bool:
        """Whether a sentence's vectors stay what they are when padding stands behind it: tried, not assumed, as some
        networks ignore the mask. Where not, sentences of one length run together."""
        device = next(self.inner.parameters()).device
        outputs: dict[str, Tensor] = {}
        rows = [[token % self.config.vocab_size for token in row] for row in PROBE]
        width = max(map(len, rows))
        short = torch.tensor(rows[:1], device=device)
        both = torch.tensor([row + [self.pad_id] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        final = [self.config.num_hidden_layers]
        self._run(short, None, final, lambda _, h: outputs.update(alone=h[0].float()))
        self._run(both, mask, final, lambda _, h: outputs.update(padded=h[0, : len(rows[0])].float()))
        return bool((torch.cosine_similarity(outputs["alone"], outputs["padded"], dim=-1) > SAME).all())

    def tags(self, device: torch.device) -> Tags:
        """See `Network.tags`."""
        import transformers

        read = "each block's own output" if self.layers is not None else "hidden_states of the whole forward"
        batching = "padded and masked" if self.pads else "sentences of one length together, as padding would be read"
        kind = type(self.inner).__name__
        return {"blocks": f"transformers {transformers.__version__} {kind}", "layers_read": read, "batching": batching}

    def depth(self, layers: Sequence[int]) -> int:
        """Blocks that a forward up to the deepest of `layers` runs."""
        blocks = self.config.num_hidden_layers
        return blocks if self.layers is None else min(max(layers) + 1, blocks)

    def capture_obstacle(self, device: torch.device) -> str | None:
        """See `Network.capture_obstacle`."""
        return "a network of transformers, whose operations may need the host"

    def parameter_count(self) -> int:
        """See `Network.parameter_count`; it is never quantized."""
        return _parameters(self)

    def forward(
        self,
        input_ids: Tensor,
        packed: Packed,
        layers: Collection[int],
        on_layer: OnLayer,
        on_state: OnState | None = None,
        on_mean: OnMean | None = None,
    ) -> None:
        """See `Network.forward`; `on_state` is never called, there are no states."""

        def hand_over(layer: int, h_TD: Tensor) -> None:
            if on_mean is not None:
                on_mean(layer, sentence_means(h_TD, packed.cu_seqlens_B1))
            on_layer(layer, h_TD)

        if self.pads or len(set(packed.lengths)) == 1:
            ids_BS, mask_BS, real_T = _padded(input_ids, packed, self.pad_id)
            self._run(ids_BS, mask_BS, layers, lambda layer, h_BSD: hand_over(layer, _tokens(h_BSD, real_T)))
            return
        # Lengths take turns, so no layer is whole before the last of them: here all layers lie in memory at once.
        whole = {layer: input_ids.new_empty(0, dtype=torch.float32) for layer in layers}
        for length in sorted(set(packed.lengths)):
            rows_B = torch.tensor([row for row, own in enumerate(packed.lengths) if own == length])
            starts_B = packed.starts_B[rows_B.to(input_ids.device)]
            place_BS = starts_B[:, None] + torch.arange(length, device=input_ids.device)
            put = functools.partial(_put, whole, packed, place_BS)
            self._run(input_ids[place_BS], None, layers, put)
        for layer in sorted(whole):
            hand_over(layer, whole[layer])

    def _run(self, ids_BS: Tensor, mask_BS: Tensor | None, layers: Collection[int], take: Take) -> None:
        inputs: dict[str, Any] = {"input_ids": ids_BS}
        if self.takes_mask and mask_BS is not None:
            inputs["attention_mask"] = mask_BS
        if self.layers is None:
            self._read_hidden_states(inputs, layers, take)
            return
        handles = self._hooks(self.layers, layers, take)
        try:
            out = self.inner(**inputs)
        except _DeepEnoughError:
            return
        finally:
            for handle in handles:
                handle.remove()
        take(len(self.layers), out.last_hidden_state)

    def _hooks(self, blocks: Sequence[nn.Module], layers: Collection[int], take: Take) -> list[Any]:
        deepest, handles = max(layers), []

        def hand_over(layer: int, h_BSD: Tensor) -> None:
            if layer in layers:
                take(layer, h_BSD)
            if layer == deepest:
                raise _DeepEnoughError

        for index in [layer for layer in layers if 0 <= layer < len(blocks)]:
            handles.append(
                blocks[index].register_forward_hook(lambda _, __, out, index=index: hand_over(index, _first(out)))
            )
        if EMBEDDING in layers:
            norm = getattr(blocks[0], "pre_ln", None)  # RWKV-4's ln0 lies inside its first block
            if isinstance(norm, nn.Module):
                handles.append(norm.register_forward_hook(lambda _, __, out: hand_over(EMBEDDING, out)))
            else:
                handles.append(
                    blocks[0].register_forward_pre_hook(
                        lambda _, args, named: hand_over(EMBEDDING, args[0] if args else named["hidden_states"]),
                        with_kwargs=True,
                    )
                )
        return handles

    def _read_hidden_states(self, inputs: dict[str, Any], layers: Collection[int], take: Take) -> None:
        out = self.inner(**inputs, output_hidden_states=True)
        blocks = self.config.num_hidden_layers
        if len(out.hidden_states) != blocks + 1:
            raise UserError(
                f"{type(self.inner).__name__} has no list of its {blocks} blocks and gives {len(out.hidden_states)} "
                f"hidden states: valid are networks that give {blocks + 1}"
            )
        for layer in sorted(layers):
            take(layer, out.last_hidden_state if layer == blocks else out.hidden_states[layer + 1])


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _first(out: Tensor | Sequence[Tensor]) -> Tensor:
    """A block's hidden states: some give a tuple that begins with them."""
    return out if isinstance(out, Tensor) else out[0]


def _padded(ids_T: Tensor, packed: Packed, pad_id: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """ids [B, S] with padding behind the shorter sentences, their mask, and where the real tokens lie in [B * S];
    without padding mask and places are None."""
    count, width = len(packed.lengths), packed.longest
    if packed.tokens == count * width:
        return ids_T.view(count, width), None, None
    lengths_B = packed.cu_seqlens_B1.diff()
    mask_BS = torch.arange(width, device=ids_T.device) < lengths_B[:, None]
    ids_BS = ids_T.new_full((count, width), pad_id)
    ids_BS[mask_BS] = ids_T
    return ids_BS, mask_BS.long(), mask_BS.flatten().nonzero().flatten()


def _tokens(h_BSD: Tensor, real_T: Tensor | None) -> Tensor:
    """[T, D] of the real tokens, fp32."""
    h_TD = h_BSD.flatten(0, 1)
    return (h_TD if real_T is None else h_TD.index_select(0, real_T)).float()


def _put(whole: dict[int, Tensor], packed: Packed, place_BS: Tensor, layer: int, h_BSD: Tensor) -> None:
    if not len(whole[layer]):
        whole[layer] = h_BSD.new_empty(packed.tokens, h_BSD.shape[-1], dtype=torch.float32)
    whole[layer][place_BS.flatten()] = h_BSD.flatten(0, 1).float()
