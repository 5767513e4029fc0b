"""Pooling as it is done with `output_hidden_states`: keep every layer's tokens, pool at the end.

What streamed pooling is compared with, in memory and time; nothing else uses it.

Shapes: L layers, S sentences, T packed tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rwkv_sweep.embedding.layer_encoder import Batch, RwkvEncoder, batches
from rwkv_sweep.embedding.pooling import RESIDUAL, STATE, source_of
from rwkv_sweep.embedding.prompts import Tokenized


@torch.inference_mode()
def encode_tokens_naive(encoder: RwkvEncoder, tokenized: Tokenized, layers: Sequence[int], pooling: str) -> Tensor:
    """What `encoder.encode_tokens` gives for one pooling, [layers, sentences, D], by way of [layers, tokens, D].

    Raises:
        ValueError: pooling is `state`, which reads no tokens, or of what lies inside of the blocks.
    """
    if pooling == STATE:
        raise ValueError("pooling=state reads no tokens, so there is nothing to keep of them")
    if source_of(pooling) != RESIDUAL:
        raise ValueError(f"pooling {pooling} reads no hidden states")
    size = encoder.loaded.model.config.hidden_size
    out_LSD = torch.empty(len(layers), len(tokenized.ids), size, device=encoder.device)
    for rows in batches([len(ids) for ids in tokenized.ids], encoder.batch_tokens, encoder.batch_size):
        batch = encoder.batch(tokenized, rows, [pooling])
        out_LSD[:, rows] = encode_batch_naive(encoder, batch, layers, pooling)
    return out_LSD


def encode_batch_naive(encoder: RwkvEncoder, batch: Batch, layers: Sequence[int], pooling: str) -> Tensor:
    """[layers, B, D] of one batch."""
    kept: dict[int, Tensor] = {}
    encoder.loaded.model(batch.ids_T, batch.packed, layers, kept.__setitem__)
    h_LTD = torch.stack([kept[layer] for layer in layers])
    del kept
    return torch.stack([batch.pool(h_TD, [pooling])[pooling] for h_TD in h_LTD])
