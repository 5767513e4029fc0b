"""The layouts in which RWKV-7 checkpoints are published, brought to the names and shapes of `Rwkv7Model`.

Which one a file has is known from its tensors alone, name by name, so mixtures are read too. D is the hidden size, R a
rank.

| part | author's .pth | fla's folder |
|---|---|---|
| before the names | | `model.` |
| table, last norm, head | `emb`, `ln_out`, `head` | `embeddings`, `norm`, `lm_head` |
| blocks | `blocks.N.att`, `.ffn` | `layers.N.attn`, `.ffn` |
| norms | `ln0`, `ln1`, `ln2`, `ln_x` | `pre_norm`, `attn_norm`, `ffn_norm`, `g_norm` |
| matrices | `receptance`, `key`, `value`, `output` | `r_proj`, `k_proj`, `v_proj`, `o_proj` |
| low-rank factors | `w1` [D, R], `w2` [R, D] | `w_lora.lora.0.weight` [R, D], `.2.weight` [D, R] |
| their biases | `w0` | `w_lora.lora.2.bias` |
| mixes | `x_r`, `x_w`, ... | the same; in older files one `x_x` [6, D] |

Transformers' own folders keep the author's names behind `rwkv7.`, EmbeddingRWKV's files behind `rwkv.`. Others keep
them behind `model.`, call the table `embeddings`, may keep low-rank factors as linear layers (`w1.weight` [R, D]), and
may have `ln0` in the table already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

BASES = ("rwkv7.", "rwkv.", "model.")
"""What a folder's network has before every name but the head's."""

MIXES = ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g")
"""In the order of the one tensor `x_x`."""

_OUTSIDE = {
    "emb.weight": "embeddings.weight",
    "embeddings.weight": "embeddings.weight",
    "ln_out.weight": "ln_out.weight",
    "ln_out.bias": "ln_out.bias",
    "norm.weight": "ln_out.weight",
    "norm.bias": "ln_out.bias",
    "head.weight": "head.weight",
    "lm_head.weight": "head.weight",
}
_BLOCK = re.compile(r"(?:blocks|layers)\.(\d+)\.(.+)")
_HALVES = {"att": "attention", "attn": "attention", "ffn": "feed_forward"}
_NORMS = {"ln0": "pre_ln", "pre_norm": "pre_ln", "attn_norm": "ln1", "ffn_norm": "ln2", "g_norm": "ln_x"}
_MATRICES = {"r_proj": "receptance", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
_FACTOR = re.compile(r"attention\.([wavg])(?:([12])(\.weight)?|_lora\.lora\.([02])\.weight)")
_BIAS = re.compile(r"attention\.([wav])(?:2|_lora\.lora\.2)\.bias")
_VALUE_RESIDUAL = re.compile(r"blocks\.0\.attention\.v[012]")

_OTHER_NETWORKS = (
    (re.compile(r"\.qkv\."), "an RWKV-7b (DeepEmbed and attention beside the state)"),
    (re.compile(r"\.ffn\.s(_emb|_emb_x)?[\d.]"), "an RWKV-7a (DeepEmbed)"),
    (re.compile(r"rosa", re.IGNORECASE), "an RWKV-8 with ROSA"),
    (re.compile(r"^reranker\."), "the reranker of an EmbeddingRWKV, which reads the states of one and no text"),
    (re.compile(r"\.(attn|self_attn)\.q_proj\."), "a hybrid, some of whose blocks have softmax attention"),
)


def is_rwkv7(names: Iterable[str]) -> bool:
    """Whether these are the tensors of an RWKV-7, or of one of its relatives: `r_k` is in no other generation."""
    return any(name.endswith((".att.r_k", ".attn.r_k")) for name in names)


def other_network(names: Iterable[str]) -> str | None:
    """Which relative of RWKV-7 has tensors of these names, in words, with the first such name; None for none."""
    names = list(names)
    for pattern, network in _OTHER_NETWORKS:
        name = next((name for name in names if pattern.search(name)), None)
        if name is not None:
            return f"{network}, as {name} shows"
    return None


def bare_name(name: str) -> str:
    """A tensor's name without what a folder's network has before it."""
    base = next((base for base in BASES if name.startswith(base)), "")
    return name[len(base) :]


def original_name(name: str) -> str:
    """The name that the author's files give to a tensor of `Rwkv7Model`."""
    if name == "embeddings.weight":
        return "emb.weight"
    for author, ours in ((".ln0.", ".pre_ln."), (".att.", ".attention."), (".ffn.", ".feed_forward.")):
        name = name.replace(ours, author)
    return name


def to_model(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of any layout under the names of `Rwkv7Model`, and for each the name that the file gives it.

    Low-rank factors come as [D, R] and [R, D], whichever way they lie in the file: their shapes tell, and the name
    where a factor is square. `r_k` comes as [H, K], all else as it is. A name that is none of RWKV-7's stays as it is.
    Block 0's `v0`, `v1` and `v2`, which nothing reads, are left out.

    Raises:
        ValueError: two tensors of the file are the same one.
    """
    oriented: dict[str, Tensor] = {}
    given: dict[str, str] = {}
    table = next((tensor for name, tensor in tensors.items() if _ours(name)[0] == "embeddings.weight"), None)
    hidden = table.shape[-1] if table is not None and table.dim() == 2 else 0
    for original, tensor in tensors.items():
        name, linear = _ours(original)
        for part, piece in _pieces(name, tensor).items():
            if _VALUE_RESIDUAL.fullmatch(part):
                continue
            if part in oriented:
                raise ValueError(f"{given[part]} and {original} are both {original_name(part)}")
            oriented[part], given[part] = _oriented(part, piece, hidden, linear), original
    return oriented, given


def _ours(original: str) -> tuple[str, bool]:
    """Our name for a tensor of a file, and whether it is a low-rank factor kept as a linear layer's weight.

    A name that is none of RWKV-7's stays as it is.
    """
    name = bare_name(original)
    if name in _OUTSIDE:
        return _OUTSIDE[name], False
    match = _BLOCK.fullmatch(name)
    if match is None:
        return original, False
    parts = match[2].split(".")
    parts[0] = _HALVES.get(parts[0], _NORMS.get(parts[0], parts[0]))
    if parts[0] == "attention" and len(parts) > 1:
        parts[1] = _MATRICES.get(parts[1], _NORMS.get(parts[1], parts[1]))
    rest, linear = ".".join(parts), False
    if bias := _BIAS.fullmatch(rest):
        rest = f"attention.{bias[1]}0"
    elif factor := _FACTOR.fullmatch(rest):
        number = factor[2] or ("1" if factor[4] == "0" else "2")
        rest, linear = f"attention.{factor[1]}{number}", factor[2] is None or factor[3] is not None
    return f"blocks.{match[1]}.{rest}", linear


def _pieces(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensor itself, or the six mixes that older files of fla keep as one."""
    block, _, last = name.rpartition(".")
    if last != "x_x" or tensor.dim() < 2 or len(tensor) != len(MIXES):
        return {name: tensor}
    return {f"{block}.{mix}": row for mix, row in zip(MIXES, tensor, strict=True)}


def _oriented(name: str, tensor: Tensor, hidden: int, linear: bool) -> Tensor:
    """A low-rank factor as [D, R] or [R, D], in memory too, so that every layout gives the same bits."""
    last = name.rpartition(".")[2]
    if last not in ("w1", "a1", "v1", "g1", "w2", "a2", "v2", "g2") or tensor.dim() != 2:
        return tensor
    wide = 0 if last[1] == "1" else 1
    rows_are_wide, columns_are_wide = tensor.shape[wide] == hidden, tensor.shape[1 - wide] == hidden
    turned = linear if rows_are_wide == columns_are_wide else columns_are_wide
    return tensor.t().contiguous() if turned else tensor
