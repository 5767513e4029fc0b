"""What one block is trained for beside the next token: that means of its output over spans tell texts apart.

What: three terms on the output of one block, averaged over spans of tokens. Two ask each mean for what its own span
holds, the tokens and the pairs of neighbouring characters, through linear heads that are thrown away after training;
frequent ones count less. The third pushes the means of different spans towards orthogonality on average.

Why: a language model without them gives all spans much the same direction, and its blocks' means tell sentences apart
less well than counts of tokens do. Neither pairs of sentences nor labels enter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from pretraining.tokens import TokenSet

SMOOTHING = 1e-2
"""A token or pair of relative frequency p counts a / (a + p) with this a (as in Arora et al., 2017)."""
CHARACTERS = " abcdefghijklmnopqrstuvwxyz0123456789.,'\"-()$%:"
CLASSES = len(CHARACTERS) + 1  # the last one is any other character
NO_PAIR = CLASSES**2
LONGEST = 10
"""Characters of a token that are looked at."""
SAMPLE_WINDOWS, SAMPLE_LENGTH = 4096, 256


class CharacterPairs(nn.Module):
    """Pairs of neighbouring characters that end inside each token."""

    def __init__(self, tokenizer: Path) -> None:
        super().__init__()
        encoder = Tokenizer.from_file(str(tokenizer))
        size = encoder.get_vocab_size()
        # In byte-level BPE "Ġ" is a space and printable ASCII stands for itself; id 0 separates documents.
        texts = [" ", *((encoder.id_to_token(index) or " ").replace("Ġ", " ") for index in range(1, size))]
        classes = [[CHARACTERS.find(c) % CLASSES for c in text[:LONGEST]] for text in texts]
        self.register_buffer("classes_VC", torch.tensor([row + [0] * (LONGEST - len(row)) for row in classes]))
        self.register_buffer("length_V", torch.tensor([len(row) for row in classes]))
        self.register_buffer("last_V", torch.tensor([row[-1] for row in classes]))

    def forward(self, ids_BL: Tensor) -> Tensor:
        """[B, L] to [B, L, LONGEST], NO_PAIR behind a token's last character."""
        before_BL1 = F.pad(self.last_V[ids_BL][:, :-1], (1, 0)).unsqueeze(-1)
        classes_BLC = torch.cat((before_BL1, self.classes_VC[ids_BL]), -1)
        pairs_BLC = classes_BLC[..., :-1] * CLASSES + classes_BLC[..., 1:]
        exists_BLC = torch.arange(LONGEST, device=ids_BL.device) < self.length_V[ids_BL].unsqueeze(-1)
        return torch.where(exists_BLC, pairs_BLC, NO_PAIR)


class SpanObjective(nn.Module):
    """The three terms, in the order of `NAMES`."""

    NAMES = ("span_tokens", "span_pairs", "span_moment")
    WEIGHTS = (1.0, 1.0, 0.2)

    def __init__(self, hidden: int, span: int, tokens: TokenSet, tokenizer: Path) -> None:
        super().__init__()
        self._span = span
        self.pairs = CharacterPairs(tokenizer)
        self.token_head = nn.Linear(hidden, tokens.vocab_size)
        self.pair_head = nn.Linear(hidden, NO_PAIR + 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        counts_V = torch.from_numpy(np.bincount(tokens.ids, minlength=tokens.vocab_size))
        starts = np.linspace(0, len(tokens.ids) - SAMPLE_LENGTH, SAMPLE_WINDOWS, dtype=np.int64)
        sample = torch.from_numpy(tokens.ids[starts[:, None] + np.arange(SAMPLE_LENGTH)].astype(np.int64))
        counts_P = torch.bincount(self.pairs(sample).flatten(), minlength=NO_PAIR + 1)
        counts_P[NO_PAIR] = 0
        pair_weight_P = _weights(counts_P)
        pair_weight_P[NO_PAIR] = 0
        self.register_buffer("token_weight_V", _weights(counts_V))
        self.register_buffer("pair_weight_P", pair_weight_P)

    def forward(self, h_TD: Tensor, ids_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output of the block over windows [B, L] laid end to end, and the windows."""
        mean_SD = h_TD.unflatten(0, (-1, self._span)).mean(1)
        tokens_SN = ids_BL.reshape(-1, self._span)
        pairs_SN = self.pairs(ids_BL).reshape(len(mean_SD), -1)
        normed_SD = F.layer_norm(mean_SD, mean_SD.shape[-1:])
        with torch.autocast(h_TD.device.type, torch.bfloat16):
            token_logits_SV, pair_logits_SP = self.token_head(normed_SD), self.pair_head(normed_SD)
        return (
            _bag_loss(token_logits_SV, tokens_SN, self.token_weight_V),
            _bag_loss(pair_logits_SP, pairs_SN, self.pair_weight_P),
            _moment_loss(mean_SD),
        )


def _weights(counts: Tensor) -> Tensor:
    share = (counts + 0.5) / counts.sum()
    return SMOOTHING / (SMOOTHING + share.float())


def _bag_loss(logits_SV: Tensor, members_SN: Tensor, weight_V: Tensor) -> Tensor:
    """Mean over spans of the weighted mean negative log probability of a span's members."""
    weight_SN = weight_V[members_SN]
    log_p_SN = logits_SV.float().log_softmax(-1).gather(1, members_SN)
    return -((log_p_SN * weight_SN).sum(1) / weight_SN.sum(1).clamp(min=1e-3)).mean()


def _moment_loss(mean_SD: Tensor) -> Tensor:
    """Distance of the spans' directions from a spread over all dimensions: 0 for S >> D evenly spread spans."""
    unit_SD = F.normalize(mean_SD, dim=-1)
    spans, size = unit_SD.shape
    moment_DD = unit_SD.T @ unit_SD * (size / spans)
    return (moment_DD - torch.eye(size, device=mean_SD.device)).square().sum() / size
