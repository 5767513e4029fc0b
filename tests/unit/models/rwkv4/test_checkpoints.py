"""RWKV-4 checkpoints: every layout of one model gives the same bits; what is none is refused in one line that names
what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rwkv_sweep.models.generations import generation_of
from rwkv_sweep.models.rwkv4.checkpoint import is_rwkv4, read_shape, read_weights
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.models.rwkv4.network import Rwkv4Model
from rwkv_sweep.models.rwkv5.checkpoint import is_rwkv5
from tests.generation_checks import (
    CONTRADICTIONS,
    NO_NETWORKS,
    REFUSED,
    Change,
    Checkpoint,
    layers_of,
    refused,
    save_pth,
    saved_folder,
    without,
)
from tests.rwkv4_checkpoints import Sizes, author_checkpoint, folder_names

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(blocks=2, hidden=24, wide=64, vocab=99)


def save_folder(folder: Path, tensors: Checkpoint, weights: bool = True, **settings: Any) -> Path:
    return saved_folder(folder, tensors, weights, **{"model_type": "rwkv", **settings})


LAYOUTS: dict[str, Callable[[Path, Checkpoint], Path]] = {
    "folder": lambda folder, c: save_folder(
        folder, folder_names(c), layer_norm_epsilon=1e-5, attention_hidden_size=24, context_length=1024, rescale_every=6
    ),
    "folder of no model_type": lambda folder, c: save_folder(folder, folder_names(c), model_type=None),
    "folder's names in a .pth": lambda folder, c: save_pth(folder, folder_names(c)),
    "author's names in a folder": lambda folder, c: save_folder(folder, c),
    "wrapped": lambda folder, c: save_pth(folder, {f"module._orig_mod.{n}": t for n, t in c.items()}),
    "flat vectors": lambda folder, c: save_pth(folder, {n: t.flatten() if t.dim() == 3 else t for n, t in c.items()}),
    "no head": lambda folder, c: save_pth(folder, {n: t for n, t in c.items() if n != "head.weight"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_bits_as_the_authors(tmp_path: Path, layout: str) -> None:
    checkpoint = author_checkpoint(SIZES)
    (tmp_path / "author").mkdir()
    path = save_pth(tmp_path / "author", checkpoint)
    assert isinstance(generation_of(path).load(path), Rwkv4Model)
    expected = layers_of(path)
    assert expected.abs().max() > 1 and len(expected) == 4
    assert torch.equal(layers_of(LAYOUTS[layout](tmp_path, checkpoint)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = {name: tensor.to(dtype) for name, tensor in author_checkpoint(SIZES).items()}
    path = save_pth(tmp_path, checkpoint)
    _, weights = read_weights(path)
    assert weights["blocks.0.attention.key.weight"].dtype == dtype
    share = checkpoint["blocks.1.att.time_mix_r"].float()
    assert torch.equal(weights["blocks.1.attention.time_maa_r"], 1 - share)


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    checkpoint = author_checkpoint(SIZES)
    expected = Rwkv4Config(99, 24, 2, 24, 64)
    for path in (save_pth(tmp_path, checkpoint), save_folder(tmp_path, folder_names(checkpoint))):
        assert read_shape(path) == expected and read_weights(path)[0] == expected


def test_sizes_of_a_folder_without_weights_come_from_its_config(tmp_path: Path) -> None:
    """RWKV/rwkv-4-169m-pile: 169 million parameters."""
    pile = {"vocab_size": 50277, "hidden_size": 768, "num_hidden_layers": 12}
    config = read_shape(save_folder(tmp_path, {}, weights=False, **pile, intermediate_size=None))
    assert config == Rwkv4Config(50277, 768, 12, 768, 3072) and config.state_size is None
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in Rwkv4Model(config).parameters())
    assert numbers + 50277 * 768 == 169_342_464


def test_the_norms_epsilon_is_that_of_the_config(tmp_path: Path) -> None:
    config, _ = read_weights(save_folder(tmp_path, folder_names(author_checkpoint(SIZES)), layer_norm_epsilon=1e-3))
    assert config.layer_norm_epsilon == 1e-3


OWN: dict[str, tuple[Change, str]] = {
    "missing share": (lambda c: without(c, "blocks.1.att.time_mix_r"), "missing: blocks.1.att.time_mix_r"),
    "missing decay": (lambda c: without(c, "blocks.0.att.time_decay"), "missing: blocks.0.att.time_decay"),
    "scalar": (lambda c: {**c, "blocks.0.att.time_decay": torch.tensor(1.0)}, r"time_decay \[\] \(expected \[24\]\)"),
    "infinity": (
        lambda c: {**c, "blocks.1.att.time_first": torch.full((24,), torch.inf)},
        "blocks.1.att.time_first holds NaN",
    ),
}


@pytest.mark.parametrize("case", [*REFUSED, *OWN])
def test_what_is_no_rwkv4_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    change, message = {**REFUSED, **OWN}[case]
    path = save_pth(tmp_path, change(author_checkpoint(SIZES)))
    assert generation_of(path).number == 4
    assert str(path) in refused(read_weights, path, message)


@pytest.mark.parametrize(
    ("settings", "message"), [*CONTRADICTIONS, ({"attention_hidden_size": 64}, "attention_hidden_size=64")]
)
def test_a_config_that_says_otherwise_is_refused_in_one_line(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = save_folder(tmp_path, folder_names(author_checkpoint(SIZES)), **settings)
    assert "config.json" in refused(read_weights, path, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *NO_NETWORKS,
        ({"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 2, "intermediate_size": "x"}, "intermediate_size=x"),
    ],
)
def test_a_config_alone_that_describes_no_network_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    refused(read_shape, save_folder(tmp_path, {}, weights=False, **settings), message)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    refused(read_weights, tmp_path / "absent.pth", r"absent\.pth does not exist")


def test_the_generation_is_recognized_by_its_tensors(shared_models: Path) -> None:
    for path in shared_models.glob("rwkv*-tiny-bytes.pth"):
        assert not is_rwkv4(list(torch.load(path, mmap=True)))
    checkpoint = author_checkpoint(SIZES)
    assert is_rwkv4(checkpoint) and is_rwkv4(folder_names(checkpoint))
    gate = {"blocks.0.att.time_mix_g": torch.ones(24)}
    assert not is_rwkv4({**checkpoint, **gate}) and is_rwkv5({**checkpoint, **gate})
