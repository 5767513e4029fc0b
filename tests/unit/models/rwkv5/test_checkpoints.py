"""RWKV-5 checkpoints: every layout of one model gives the same bits; what is none is refused in one line that names
what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rwkv_sweep.models.generations import generation_of
from rwkv_sweep.models.rwkv5.checkpoint import is_rwkv5, read_shape, read_weights
from rwkv_sweep.models.rwkv5.configuration import Rwkv5Config
from rwkv_sweep.models.rwkv5.network import Rwkv5Model
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
from tests.rwkv4_checkpoints import folder_names
from tests.rwkv5_checkpoints import Sizes, author_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(blocks=2, hidden=24, head_size=4, wide=64, vocab=99)


def save_folder(folder: Path, tensors: Checkpoint, weights: bool = True, **settings: Any) -> Path:
    return saved_folder(folder, tensors, weights, **{"model_type": "rwkv5", **settings})


LAYOUTS: dict[str, Callable[[Path, Checkpoint], Path]] = {
    "folder": lambda folder, c: save_folder(
        folder, folder_names(c), head_size=4, layer_norm_epsilon=1e-5, num_attention_heads=64, rescale_every=6
    ),
    "folder of no model_type": lambda folder, c: save_folder(folder, folder_names(c), model_type=None),
    "folder's names in a .pth": lambda folder, c: save_pth(folder, folder_names(c)),
    "author's names in a folder": lambda folder, c: save_folder(folder, c),
    "wrapped": lambda folder, c: save_pth(folder, {f"module._orig_mod.{n}": t for n, t in c.items()}),
    "flat vectors": lambda folder, c: save_pth(folder, {n: t.flatten() if t.dim() == 3 else t for n, t in c.items()}),
    "decays [H, K, 1]": lambda folder, c: save_pth(
        folder, {n: t[..., None] if n.endswith("time_decay") else t for n, t in c.items()}
    ),
    "no head": lambda folder, c: save_pth(folder, {n: t for n, t in c.items() if n != "head.weight"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_bits_as_the_authors(tmp_path: Path, layout: str) -> None:
    checkpoint = author_checkpoint(SIZES)
    (tmp_path / "author").mkdir()
    path = save_pth(tmp_path / "author", checkpoint)
    assert isinstance(generation_of(path).load(path), Rwkv5Model)
    expected = layers_of(path)
    assert expected.abs().max() > 1 and len(expected) == 4
    assert torch.equal(layers_of(LAYOUTS[layout](tmp_path, checkpoint)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = {name: tensor.to(dtype) for name, tensor in author_checkpoint(SIZES).items()}
    path = save_pth(tmp_path, checkpoint)
    _, weights = read_weights(path)
    assert weights["blocks.0.attention.key.weight"].dtype == dtype
    share = checkpoint["blocks.1.att.time_mix_g"].float()
    assert torch.equal(weights["blocks.1.attention.time_maa_g"], 1 - share)


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    checkpoint = author_checkpoint(SIZES)
    expected = Rwkv5Config(99, 24, 2, 24, 4, 64)
    for path in (save_pth(tmp_path, checkpoint), save_folder(tmp_path, folder_names(checkpoint))):
        assert read_shape(path) == expected and read_weights(path)[0] == expected


def test_sizes_of_a_folder_without_weights_come_from_its_config(tmp_path: Path) -> None:
    """RWKV/v5-Eagle-7B-HF: 7.52 billion parameters."""
    eagle = {"vocab_size": 65536, "hidden_size": 4096, "num_hidden_layers": 32, "head_size": 64}
    config = read_shape(save_folder(tmp_path, {}, weights=False, **eagle, intermediate_size=None))
    assert config == Rwkv5Config(65536, 4096, 32, 4096, 64, 14336) and config.state_size == 64 * 4096
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in Rwkv5Model(config).parameters())
    assert 7.51e9 < numbers + 65536 * 4096 < 7.53e9


def test_the_norms_epsilon_is_that_of_the_config(tmp_path: Path) -> None:
    config, _ = read_weights(save_folder(tmp_path, folder_names(author_checkpoint(SIZES)), layer_norm_epsilon=1e-3))
    assert config.layer_norm_epsilon == 1e-3 and config.head_norm_epsilon == pytest.approx(0.064)


OWN: dict[str, tuple[Change, str]] = {
    "5.0": (lambda _: author_checkpoint(SIZES, "5.0"), r"RWKV-5\.0, as it has no .*gate.weight: valid are RWKV-5.1"),
    "trained state": (lambda c: {**c, "blocks.1.att.time_state": torch.ones(4)}, "unexpected: .*time_state"),
    "missing share": (lambda c: without(c, "blocks.1.att.time_mix_g"), "missing: blocks.1.att.time_mix_g"),
    "missing decay": (lambda c: without(c, "blocks.0.att.time_decay"), "time_decay is missing"),
    "heads that do not fit": (
        lambda c: {**c, "blocks.0.att.time_decay": torch.ones(7, 4)},
        r"time_decay is of shape \[7, 4\]",
    ),
    "scalar": (lambda c: {**c, "blocks.0.att.time_decay": torch.tensor(1.0)}, r"time_decay is of shape \[\]"),
    "infinity": (
        lambda c: {**c, "blocks.1.att.time_faaaa": torch.full((6, 4), torch.inf)},
        "blocks.1.att.time_faaaa holds NaN",
    ),
}


@pytest.mark.parametrize("case", [*REFUSED, *OWN])
def test_what_is_no_rwkv5_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    change, message = {**REFUSED, **OWN}[case]
    path = save_pth(tmp_path, change(author_checkpoint(SIZES)))
    assert generation_of(path).number == 5
    assert str(path) in refused(read_weights, path, message)


@pytest.mark.parametrize(("settings", "message"), [*CONTRADICTIONS, ({"head_size": 64}, "head_size=64")])
def test_a_config_that_says_otherwise_is_refused_in_one_line(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = save_folder(tmp_path, folder_names(author_checkpoint(SIZES)), **settings)
    assert "config.json" in refused(read_weights, path, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [*NO_NETWORKS, ({"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 2, "head_size": 3}, "not a multiple")],
)
def test_a_config_alone_that_describes_no_network_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    refused(read_shape, save_folder(tmp_path, {}, weights=False, **settings), message)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    refused(read_weights, tmp_path / "absent.pth", r"absent\.pth does not exist")


def test_the_generation_is_recognized_by_its_tensors(shared_models: Path) -> None:
    names = {path.name[:5]: list(torch.load(path, mmap=True)) for path in shared_models.glob("rwkv*-tiny-bytes.pth")}
    assert {generation: is_rwkv5(tensors) for generation, tensors in names.items()} == {
        "rwkv5": True,
        "rwkv6": False,
        "rwkv7": False,
    }
    assert is_rwkv5(folder_names(author_checkpoint(SIZES)))
