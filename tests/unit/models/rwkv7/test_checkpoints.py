"""RWKV-7 checkpoints: every published layout of one model gives the same bits; what is no plain RWKV-7 is refused in
one line that names what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.rwkv7.checkpoint import read_weights
from rwkv_sweep.models.rwkv7.checkpoint_layouts import is_rwkv7, other_network
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config, usual_ranks
from rwkv_sweep.models.rwkv7.network import Rwkv7Model
from rwkv_sweep.ops.common.packing import Packed
from tests.rwkv7_checkpoints import Sizes, author_checkpoint, fla_names, linear_factors, native_names

pytestmark = pytest.mark.usefixtures("one_thread")

Checkpoint = dict[str, Tensor]
HEADS_OF_64 = Sizes(blocks=2, heads=2, head_size=64, wide=160, ranks=(64, 32, 96, 128))
"""One rank is the hidden size: that factor's shape does not tell how it lies."""


def save_pth(folder: Path, checkpoint: Checkpoint) -> Path:
    path = folder / "model.pth"
    torch.save(checkpoint, path)
    return path


def save_folder(folder: Path, tensors: Checkpoint, **settings: Any) -> Path:
    """A folder of its own with config.json and model.safetensors."""
    path = folder / f"model{len(list(folder.iterdir()))}"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "rwkv7", **settings}))
    save_file(tensors, path / "model.safetensors")
    return path


@torch.inference_mode()
def layers_of(path: Path) -> Tensor:
    """The embedding, all blocks and the final norm over some bytes, [L + 2, T, D]."""
    config, weights = read_weights(path)
    assert all(tensor.is_contiguous() for tensor in weights.values())
    model = Rwkv7Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    actual: list[Tensor] = []
    ids = list(b"One layer of four is as good as another.")
    model(
        torch.tensor(ids),
        Packed.of([3, len(ids) - 3]),
        range(EMBEDDING, config.num_hidden_layers + 1),
        lambda _, h: actual.append(h),
    )
    return torch.stack(actual)


def turned_factors(checkpoint: Checkpoint) -> Checkpoint:
    """With low-rank factors as their names do not say; but for square ones, whose names alone tell how they lie."""
    factor = re.compile(r"\.att\.[wavg][12](\.weight)?$")
    return {
        name: tensor.t().contiguous() if factor.search(name) and len(set(tensor.shape)) == 2 else tensor
        for name, tensor in checkpoint.items()
    }


def embedding_names(checkpoint: Checkpoint) -> Checkpoint:
    """As EmbeddingRWKV (arXiv 2601.07861) stores a model: no output head, and three task heads behind the network."""
    hidden = checkpoint["emb.weight"].shape[1]
    tensors = {f"rwkv.{name}": tensor for name, tensor in checkpoint.items() if name != "head.weight"}
    for task in ("cls_head", "sts_head", "retr_head"):
        tensors |= {f"head.{task}.{name}.weight": torch.ones(hidden, hidden) for name in ("fc1", "fc2")}
        tensors |= {f"head.{task}.norm.{name}": torch.ones(hidden) for name in ("weight", "bias")}
    return tensors


LAYOUTS: dict[str, Callable[[Path, Checkpoint], Path]] = {
    "fla": lambda folder, c: save_folder(
        folder, fla_names(c), norm_eps=1e-5, head_dim=64, hidden_act="sqrelu", attn=None
    ),
    "older fla": lambda folder, c: save_folder(
        folder, fla_names(c, one_mix=True), norm_eps=1e-5, value_dim=[128, 128], hidden_size=128
    ),
    "fla in a .pth": lambda folder, c: save_pth(folder, fla_names(c)),
    "transformers": lambda folder, c: save_folder(
        folder, native_names(c), norm_eps=1e-5, head_dim=64, use_deep_embed=False
    ),
    "linear factors": lambda folder, c: save_folder(
        folder,
        linear_factors(c, fold_norm=False),
        layer_norm_epsilon=1e-5,
        group_norm_epsilon=64e-5,
        head_size=64,
        embedding_layer_norm_fused=False,
    ),
    "linear factors, normed table": lambda folder, c: save_folder(
        folder, linear_factors(c), layer_norm_epsilon=1e-5, head_size=64, embedding_layer_norm_fused=True
    ),
    "EmbeddingRWKV": lambda folder, c: save_pth(folder, embedding_names(c)),
    "wrapped by DataParallel": lambda folder, c: save_pth(folder, {f"module.{n}": t for n, t in c.items()}),
    "wrapped twice": lambda folder, c: save_pth(folder, {f"module._orig_mod.{n}": t for n, t in c.items()}),
    "flat vectors": lambda folder, c: save_pth(folder, {n: t.flatten() if t.dim() == 3 else t for n, t in c.items()}),
    "factors that lie the other way": lambda folder, c: save_pth(folder, turned_factors(c)),
    "linear factors that lie the other way": lambda folder, c: save_folder(
        folder, turned_factors(linear_factors(c, fold_norm=False)), layer_norm_epsilon=1e-5
    ),
    "no head": lambda folder, c: save_pth(folder, {n: t for n, t in c.items() if n != "head.weight"}),
    "unused value residual in block 0": lambda folder, c: save_pth(
        folder, {**c, **{f"blocks.0.att.v{i}": torch.ones_like(c[f"blocks.1.att.v{i}"]) for i in range(3)}}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_bits_as_the_authors(tmp_path: Path, layout: str) -> None:
    checkpoint = author_checkpoint(HEADS_OF_64)
    (tmp_path / "author").mkdir()
    expected = layers_of(save_pth(tmp_path / "author", checkpoint))
    actual = layers_of(LAYOUTS[layout](tmp_path, checkpoint))
    assert expected.abs().max() > 1 and len(expected) == 4
    assert torch.equal(actual, expected)


def test_task_heads_are_no_part_of_the_network(tmp_path: Path) -> None:
    path = save_pth(tmp_path, embedding_names(author_checkpoint(Sizes())))
    config, weights = read_weights(path)
    assert not any("head" in name for name in weights) and config.task_heads == ("CLS", "RETR", "STS")


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    sizes = Sizes(blocks=2, heads=3, head_size=8, wide=40, ranks=(3, 5, 4, 6), vocab=99)
    for path in (
        save_pth(tmp_path, author_checkpoint(sizes)),
        save_folder(tmp_path, fla_names(author_checkpoint(sizes))),
    ):
        config, weights = read_weights(path)
        assert config == Rwkv7Config(99, 24, 2, 8, 40, decay_rank=3, rate_rank=5, value_rank=4, gate_rank=6)
        assert config.num_heads == 3 and "head.weight" not in weights


@pytest.mark.parametrize(
    ("hidden", "blocks", "numbers", "value_residual_in_block_0"),
    [
        (1024, 24, 450_767_872, False),  # RWKV7-Goose-World2.9-0.4B-HF
        (2048, 24, 1_527_668_736, True),  # RWKV7-1.5B-20260805
    ],
)
def test_parameters_are_as_many_as_published(
    hidden: int, blocks: int, numbers: int, value_residual_in_block_0: bool
) -> None:
    config = Rwkv7Config(65536, hidden, blocks, 64, 4 * hidden, **usual_ranks(hidden))
    with torch.device("meta"):
        actual = sum(parameter.numel() for parameter in Rwkv7Model(config).parameters())
    unused = hidden * (1 + 2 * config.value_rank) if value_residual_in_block_0 else 0
    assert actual + unused + 65536 * hidden == numbers


@pytest.mark.parametrize(
    ("hidden", "ranks"),
    [(768, (64, 64, 32, 128)), (1024, (64, 64, 32, 128)), (2048, (96, 96, 64, 256)), (2560, (96, 96, 64, 320))],
)
def test_usual_ranks_are_those_of_published_files(hidden: int, ranks: tuple[int, ...]) -> None:
    assert tuple(usual_ranks(hidden).values()) == ranks


def test_the_head_norms_epsilon_follows_the_layout(tmp_path: Path) -> None:
    """The author has 64e-5 for all heads, fla the head size times its epsilon: other numbers for heads of 8."""
    checkpoint = author_checkpoint(Sizes())
    folders = {
        8e-5: save_folder(tmp_path, fla_names(checkpoint), norm_eps=1e-5),
        64e-5: save_pth(tmp_path, checkpoint),
        3e-4: save_folder(tmp_path, fla_names(checkpoint), layer_norm_epsilon=1e-5, group_norm_epsilon=3e-4),
    }
    for epsilon, path in folders.items():
        assert read_weights(path)[0].head_norm_epsilon == pytest.approx(epsilon)


def test_a_norm_that_is_in_the_table_already_is_not_applied_again(tmp_path: Path) -> None:
    """Some files keep `ln0` beside a table that went through it; what the table holds decides."""
    checkpoint = author_checkpoint(HEADS_OF_64)
    folded = linear_factors(checkpoint)
    both = {
        **folded,
        **{f"model.blocks.0.ln0.{part}": checkpoint[f"blocks.0.ln0.{part}"] for part in ("weight", "bias")},
    }
    expected = layers_of(save_folder(tmp_path, folded, embedding_layer_norm_fused=True))
    for settings_ in ({"embedding_layer_norm_fused": True}, {}):
        path = save_folder(tmp_path, both, **settings_)
        assert read_weights(path)[0].normed_embedding and torch.equal(layers_of(path), expected)


def test_half_precision_tables_are_recognized_too(tmp_path: Path) -> None:
    checkpoint = author_checkpoint(HEADS_OF_64)
    for dtype in (torch.bfloat16, torch.float16):
        folded = linear_factors(checkpoint)
        norm = {f"model.blocks.0.ln0.{part}": checkpoint[f"blocks.0.ln0.{part}"] for part in ("weight", "bias")}
        path = save_folder(tmp_path, {name: tensor.to(dtype) for name, tensor in {**folded, **norm}.items()})
        assert read_weights(path)[0].normed_embedding
        plain = save_folder(tmp_path, {name: tensor.to(dtype) for name, tensor in native_names(checkpoint).items()})
        assert not read_weights(plain)[0].normed_embedding


def without(checkpoint: Checkpoint, *parts: str) -> Checkpoint:
    return {name: tensor for name, tensor in checkpoint.items() if not any(part in name for part in parts)}


def with_tensor(checkpoint: Checkpoint, name: str, tensor: Tensor) -> Checkpoint:
    return {**checkpoint, name: tensor}


REFUSED: dict[str, tuple[Callable[[Checkpoint], Checkpoint], str]] = {
    "DeepEmbed": (
        lambda c: with_tensor(c, "blocks.1.ffn.s_emb.weight", torch.ones(4, 4)),
        "RWKV-7a.*blocks.1.ffn.s_emb",
    ),
    "DeepEmbed's small factors": (
        lambda c: with_tensor(c, "blocks.0.ffn.s1", torch.ones(4, 4)),
        "RWKV-7a.*blocks.0.ffn.s1",
    ),
    "attention": (lambda c: with_tensor(c, "blocks.2.qkv.qq.weight", torch.ones(4, 4)), "RWKV-7b.*blocks.2.qkv"),
    "ROSA": (lambda c: with_tensor(c, "blocks.0.att.rosa_q.weight", torch.ones(4, 4)), "ROSA.*rosa_q"),
    "hybrid": (
        lambda c: with_tensor(c, "model.layers.1.attn.q_proj.weight", torch.ones(4, 4)),
        "softmax.*layers.1.attn.q_proj",
    ),
    "unknown tensor": (lambda c: with_tensor(c, "blocks.1.att.z9", torch.ones(4)), "unexpected: blocks.1.att.z9"),
    "unknown tensor outside": (lambda c: with_tensor(c, "memory.weight", torch.ones(4)), "unexpected: memory.weight"),
    "missing matrix": (lambda c: without(c, "blocks.1.att.key"), "missing: blocks.1.att.key.weight"),
    "missing factor": (lambda c: without(c, "blocks.1.att.v1"), "missing|another shape"),
    "missing ln0": (lambda c: without(c, "ln0"), "no blocks.0.ln0"),
    "missing r_k": (lambda c: without(c, "blocks.0.att.r_k"), "no matrix blocks.0.att.r_k"),
    "missing block": (lambda c: without(c, "blocks.1."), "tensors of blocks.2, but none of blocks.1"),
    "far block": (
        lambda c: with_tensor(c, "blocks.99999999999.ln1.weight", torch.ones(16)),
        "none of blocks.3",
    ),
    "wrong shape": (
        lambda c: with_tensor(c, "blocks.1.att.a0", torch.ones(1, 1, 15)),
        r"att.a0 \[1, 1, 15\] \(expected \[16\]\)",
    ),
    "another rank in one block": (lambda c: with_tensor(c, "blocks.2.att.w1", torch.ones(16, 7)), r"att.w1 \[16, 7\]"),
    "another head": (lambda c: with_tensor(c, "head.weight", torch.ones(9, 16)), r"head.weight \[9, 16\]"),
    "another dtype": (
        lambda c: with_tensor(c, "head.weight", torch.ones(256, 16, dtype=torch.int8)),
        "dtype: head.weight",
    ),
    "heads that do not fit": (lambda c: with_tensor(c, "blocks.0.att.r_k", torch.ones(3, 7)), r"r_k of shape \[3, 7\]"),
    "nothing in a table": (lambda c: with_tensor(c, "emb.weight", torch.ones(0, 16)), "emb.weight is empty"),
    "scalar": (lambda c: with_tensor(c, "blocks.1.att.v1", torch.tensor(1.0)), r"v1 \[\]"),
    "twice": (
        lambda c: with_tensor(c, "module.emb.weight", c["emb.weight"]),
        "emb.weight and module.emb.weight are both",
    ),
    "NaN": (lambda c: with_tensor(c, "blocks.2.ffn.x_k", torch.full((16,), torch.nan)), "blocks.2.ffn.x_k holds NaN"),
    "infinity": (
        lambda c: with_tensor(c, "blocks.1.att.r_k", torch.full((2, 8), torch.inf)),
        "blocks.1.att.r_k holds NaN",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_rwkv7_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    change, message = REFUSED[case]
    path = save_pth(tmp_path, change(author_checkpoint(Sizes())))
    with pytest.raises(UserError, match=message) as raised:
        read_weights(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attn": {"layers": [1], "num_heads": 2}}, "attn=.*softmax attention"),
        ({"use_deep_embed": True}, "use_deep_embed=True.*DeepEmbed"),
        ({"hidden_act": "relu"}, "hidden_act=relu"),
        ({"hidden_size": 16, "value_dim": [16, 32, 16]}, "value_dim=.*another width"),
        ({"hidden_size": 32}, "hidden_size=32, but the tensors beside it have 16"),
        ({"num_hidden_layers": 12}, "num_hidden_layers=12, but the tensors beside it have 3"),
        ({"vocab_size": 65536}, "vocab_size=65536"),
        ({"head_dim": 64}, "head_dim=64"),
        ({"head_size": "8"}, "head_size=8"),
        ({"norm_eps": 0}, "norm_eps=0"),
        ({"norm_eps": "small"}, "norm_eps=small"),
        ({"group_norm_epsilon": float("nan")}, "group_norm_epsilon=nan"),
        ({"embedding_layer_norm_fused": True}, "embedding_layer_norm_fused=true.*not what blocks.0.ln0 gives"),
    ],
)
def test_a_config_that_says_otherwise_is_refused_in_one_line(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = save_folder(tmp_path, fla_names(author_checkpoint(Sizes())), **settings)
    with pytest.raises(UserError, match=message) as raised:
        read_weights(path)
    assert "config.json" in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_without_the_embeddings_norm_says_what_would_do(tmp_path: Path) -> None:
    path = save_folder(tmp_path, without(fla_names(author_checkpoint(Sizes())), "pre_norm"), norm_first=False)
    with pytest.raises(UserError, match=r"no blocks.0.ln0.*embedding_layer_norm_fused"):
        read_weights(path)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pth does not exist"):
        read_weights(tmp_path / "absent.pth")


def test_generations_are_distinguished_by_their_tensors(shared_models: Path) -> None:
    names = {path.name[:5]: list(torch.load(path, mmap=True)) for path in shared_models.glob("rwkv*-tiny-bytes.pth")}
    assert {generation: is_rwkv7(actual) for generation, actual in names.items()} == {
        "rwkv5": False,
        "rwkv6": False,
        "rwkv7": True,
    }
    assert other_network(names["rwkv7"]) is None
    for layout in (fla_names, native_names, linear_factors):
        assert is_rwkv7(layout(author_checkpoint(Sizes())))
