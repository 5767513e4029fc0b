"""What the tokens of each sentence look like in one layer, taken while they are there: three numbers a sentence.

Shapes: T packed tokens, B sentences, N tokens of the longest, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed

ENTROPY, ANGLE_SUM, ANGLES = range(3)
"""Places of the three numbers: see `token_statistics`."""
COUNT = 3
_NO_LENGTH = 1e-12
"""A centred token below this share of its length before is rounding: it is taken for zero."""


def token_statistics(h_TD: Tensor, packed: Packed) -> Tensor:
    """Of each sentence, fp32 [B, 3] on the device, computed in float64:

    - its prompt entropy in nats: entropy of the spectrum of K / tr K for K = Z Z^T, where the rows of Z are its tokens
      less their mean, each at length 1; 0 where all tokens are the same, or there is one;
    - the sum of the angles between each step from a token to the next and the step after it, in radians;
    - how many such angles there are: a step of length zero makes none.
    """
    h_TD = h_TD.double()
    lengths_B = packed.cu_seqlens_B1.diff()
    sentence_T = torch.arange(len(lengths_B), device=h_TD.device).repeat_interleave(
        lengths_B, output_size=packed.tokens
    )
    sums_BD = h_TD.new_zeros(len(lengths_B), h_TD.shape[1]).index_add_(0, sentence_T, h_TD)
    centred_TD = h_TD - (sums_BD / lengths_B[:, None])[sentence_T]
    norm_T = centred_TD.norm(dim=1)
    norm_T[norm_T <= _NO_LENGTH * h_TD.norm(dim=1)] = torch.inf
    entropy_B = _entropies(centred_TD / norm_T[:, None], packed, sentence_T)
    return torch.stack([entropy_B, *_angles(h_TD, sentence_T, len(lengths_B))], dim=1).float()


def _entropies(rows_TD: Tensor, packed: Packed, sentence_T: Tensor) -> Tensor:
    """[B] of rows of length 1 or 0. Sentences are padded with zero rows, which add eigenvalues of zero alone."""
    place_T = torch.arange(packed.tokens, device=rows_TD.device) - packed.starts_B[sentence_T]
    padded_BND = rows_TD.new_zeros(len(packed.lengths), packed.longest, rows_TD.shape[1])
    padded_BND[sentence_T, place_T] = rows_TD
    # The smaller of Z Z^T and Z^T Z: but for zeros their spectra are the same.
    short = packed.longest <= rows_TD.shape[1]
    kernels = padded_BND @ padded_BND.mT if short else padded_BND.mT @ padded_BND
    values = torch.linalg.eigvalsh(kernels).clamp(min=0)
    total_B = values.sum(dim=1, keepdim=True)
    shares = values / total_B.where(total_B > 0, 1)
    return -torch.xlogy(shares, shares).sum(dim=1)


def _angles(h_TD: Tensor, sentence_T: Tensor, sentences: int) -> tuple[Tensor, Tensor]:
    """Sum and number of the angles between consecutive steps, [B] each; no step leads from one sentence to another."""
    steps = h_TD.diff(dim=0)
    norms = steps.norm(dim=1)
    within = (sentence_T[2:] == sentence_T[:-2]) & (norms[1:] > 0) & (norms[:-1] > 0)
    cosines = (steps[1:] * steps[:-1]).sum(dim=1) / (norms[1:] * norms[:-1]).where(within, 1)
    angles = torch.arccos(cosines.clamp(-1, 1)).where(within, 0)
    sums_2B = torch.zeros(2, sentences, dtype=torch.float64, device=h_TD.device)
    sums_2B[0].index_add_(0, sentence_T[2:], angles)
    sums_2B[1].index_add_(0, sentence_T[2:], within.double())
    return sums_2B[0], sums_2B[1]
