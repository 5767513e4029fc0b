"""Tokens to one vector per sentence, over packed batches.

Shapes: T packed tokens, B sentences, D hidden size, H heads of K key and V value channels; in the weights of `idf`, V
entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import layer_name
from rwkv_sweep.embedding.token_statistics import COUNT, token_statistics
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.layer_handover import sentence_means
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.ops.common.packing import Packed

IDF = "idf"
"""The one pooling whose weights come from other texts: see `idf_weights`."""
EOS = "eos"
"""The one pooling of tokens whose tokens are others: the end-of-text tokens, wherever the prompt's span is."""
STATE = "state"
"""The one pooling that reads the network's state and not its outputs: see `read_state`."""
RESIDUAL, VALUES = "residual", "values"
"""Two of `POOLING_SOURCES`."""
TOKEN_STATISTICS = "token_statistics"
"""No pooling for scores: three numbers on the tokens of each sentence, see `rwkv_sweep.embedding.token_statistics`."""


@dataclass(frozen=True)
class PooledTokens:
    """The tokens of a batch that are pooled: all that were read, or the span that the prompt names.

    Attributes:
        packed: B sentences and T tokens, without the tokens that are only read.
        weights_T: for `idf`, the weight of each token, above 0.
    """

    packed: Packed
    weights_T: Tensor | None = None

    @cached_property
    def position_T(self) -> Tensor:
        """1, 2, 3, ... within each sentence, fp32; made once a batch, shared by all layers."""
        device = self.packed.cu_seqlens_B1.device
        lengths_B = self.packed.cu_seqlens_B1.diff()
        starts_T = self.packed.starts_B.repeat_interleave(lengths_B, output_size=self.packed.tokens)
        return (torch.arange(1, self.packed.tokens + 1, device=device) - starts_T).float()


Pool = Callable[[Tensor, PooledTokens], Tensor]
"""[T, D] of packed tokens to [B, D], one vector per sentence."""


def mean(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """Mean over the tokens of each sentence."""
    return sentence_means(h_TD, tokens.packed.cu_seqlens_B1)


def last(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """The last token, the only one that has read the whole sentence."""
    return h_TD.index_select(0, tokens.packed.last_B)


def maximum(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """Largest value of each channel over the tokens of a sentence."""
    return torch.segment_reduce(h_TD, "max", offsets=tokens.packed.cu_seqlens_B1, axis=0, unsafe=True)


def first_last(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """Mean of the first and the last token."""
    first_BD = h_TD.index_select(0, tokens.packed.starts_B)
    return (first_BD + last(h_TD, tokens)) / 2


def position(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """Position-weighted mean of SGPT (arXiv 2202.08904, eq. 2): token i of n weighs i / (1 + ... + n), as later tokens
    have read more."""
    return _weighted(h_TD, tokens.position_T, tokens.packed)


def idf(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """Mean weighted by inverse document frequency, see `idf_weights`.

    Raises:
        ValueError: no weights were given.
    """
    if tokens.weights_T is None:
        raise ValueError("pooling by inverse document frequency needs the weights of the tokens")
    return _weighted(h_TD, tokens.weights_T, tokens.packed)


def eos(h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """Mean of the end-of-text tokens of a sentence, which are all that it is given."""
    return mean(h_TD, tokens)


POOLS: dict[str, Pool] = {
    "mean": mean,
    "last": last,
    "max": maximum,
    "first_last": first_last,
    "position": position,
    IDF: idf,
    EOS: eos,
}
"""All but `STATE`, by their names in the config."""


def source_of(pooling: str) -> str:
    """What `pooling` (`PoolingConfig.spec`) reads of a block: one of `POOLING_SOURCES`."""
    source, colon, _ = pooling.partition(":")
    return source if colon else RESIDUAL


def name_of(pooling: str) -> str:
    """What is done with it: one of `POOLINGS`."""
    return pooling.rpartition(":")[2]


def token_statistics_of(pooling: str) -> str:
    """`TOKEN_STATISTICS` of the same tokens."""
    source = source_of(pooling)
    return TOKEN_STATISTICS if source == RESIDUAL else f"{source}:{TOKEN_STATISTICS}"


def final_pooling(pooling: str) -> str:
    """The pooling of final-layer inference beside a run with `pooling`: the final layer has an output alone, and the
    mean is what it usually takes in place of a state."""
    return "mean" if pooling == STATE else name_of(pooling)


def pool(pooling: str, h_TD: Tensor, tokens: PooledTokens) -> Tensor:
    """By one of `POOLS`, of any source, or `TOKEN_STATISTICS`: [T, D] to [B, D']."""
    if name_of(pooling) == TOKEN_STATISTICS:
        return token_statistics(h_TD, tokens.packed)
    return POOLS[name_of(pooling)](h_TD, tokens)


def read_state(wkv_BHKV: Tensor, shift_B2D: Tensor) -> Tensor:
    """[B, H * K * V] from a block's state after each sentence's last token: the WKV state, laid flat as it is.

    Chosen by Spearman on the first 1000 rows of MRPC train, byte-level model, blocks 1, 3, 5, 7, 9, 11:
    flat                          .288 .321 .329 .369 .366 .366
    flat, and the shift states    .285 .318 .326 .368 .364 .365
    mean over keys (H * V)        .228 .279 .300 .366 .350 .348
    flat, unit length per head    .127 .136 .138 .146 .145 .165
    shift states alone            .079 .083 .098 .084 .079 .064
    (mean pooling                 .348 .346 .346 .346 .348 .342)
    The lengths carry the meaning: heads that hold on to much have long states and are good alone (block 7: rank
    correlation .93 between a head's mean length and its own Spearman), and unit lengths give the others the same say.
    Flat less mean pooling, block 7: .023, 95 % interval -.005 to .053.

    The price: 131,072 numbers a layer in Finch 1B6, 64 times the hidden size; 1 GiB per 2,048 sentences and layer.
    """
    return wkv_BHKV.flatten(1)


def vector_size(name: str, shape: Shape) -> int:
    """Length of one layer's pooled vector."""
    if name == STATE:
        assert shape.state_size is not None, "networks without states are refused before"
        return shape.state_size
    if name_of(name) == TOKEN_STATISTICS:
        return COUNT
    if source_of(name) == VALUES:
        assert shape.value_size is not None, "networks without a time mix are refused before"
        return shape.value_size
    return shape.hidden_size


def idf_weights(ids: Iterable[Sequence[int]], table_size: int) -> Tensor:
    """Inverse document frequency of every token id, fp32 [V], from the texts of `rwkv_sweep.data.corpus`.

    ln((1 + S) / (1 + df)) + 1 for S sentences, df of which hold the id: the frequency of Spärck Jones (1972, "A
    statistical interpretation of term specificity"), smoothed as if one more sentence held every id, as in
    scikit-learn's `TfidfTransformer`. The 1 keeps an id that every sentence holds above 0, so that no sum of weights
    vanishes.

    Args:
        ids: token ids of each text.
        table_size: V, rows of the embedding table.
    """
    sentences_V, count = torch.zeros(table_size, dtype=torch.float64), 0
    for sentence in ids:
        sentences_V[torch.tensor(sorted(set(sentence)), dtype=torch.int64)] += 1
        count += 1
    return (torch.log((1 + count) / (1 + sentences_V)) + 1).float()


def check_pooling(name: str, layers: Sequence[int], num_blocks: int) -> None:
    """Raises UserError where the state, or the inner vectors, of a layer that is no block are asked for."""
    source = source_of(name)
    if name != STATE and source == RESIDUAL:
        return
    asked, what = ("pooling=state", "a state") if name == STATE else (f"pooling.source={source}", "a time mix")
    for layer in layers:
        if not 0 <= layer < num_blocks:
            raise UserError(
                f"{asked} with layer={layer_name(layer, num_blocks)}: only blocks have {what}, valid are layers "
                f"0 to {num_blocks - 1}"
            )


def _weighted(h_TD: Tensor, weights_T: Tensor, packed: Packed) -> Tensor:
    sums_B = torch.segment_reduce(weights_T, "sum", offsets=packed.cu_seqlens_B1, axis=0, unsafe=True)
    weighted_BD = torch.segment_reduce(
        h_TD * weights_T[:, None], "sum", offsets=packed.cu_seqlens_B1, axis=0, unsafe=True
    )
    return weighted_BD / sums_B[:, None]
