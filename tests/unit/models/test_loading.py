"""Models of each source, and one clear line for what a model config lacks or the hub does not give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.generations import GENERATIONS
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.pretrained import locate
from rwkv_sweep.models.rwkv6.checkpoint import fingerprint
from tests.small_models import CPU, FP32, checkpoint_lm, save_folder, save_original


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return dict(checkpoint_lm().state_dict())


def test_load_model_of_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Tensor]) -> None:
    path = save_original(tmp_path / "m.pth", weights)
    local = load_model(ModelConfig(name="l", source="local", path=str(path), tokenizer="bytes"), FP32, CPU)
    assert local.trained and local.fingerprint == fingerprint(path) and local.tokenizer.name == "bytes"
    assert not local.model.training and not any(p.requires_grad for p in local.model.parameters())
    actual = local.model.state_dict()
    assert all(torch.equal(actual[name[5:]], weight) for name, weight in weights.items() if name.startswith("rwkv."))

    with pytest.raises(UserError, match=r"model\.source=assets, but no model lies in .*model=local"):
        monkeypatch.setattr(locate, "MODEL", tmp_path / "none")
        model_source(ModelConfig(name="tiny", source="assets")).shape()
    monkeypatch.setattr(locate, "MODEL", save_folder(tmp_path / "assets", weights, "safetensors"))
    assert load_model(ModelConfig(name="tiny", source="assets", tokenizer="bytes"), FP32, CPU).trained

    sizes = {"hidden_size": 32, "num_blocks": 2, "head_size": 16, "intermediate_size": 64, "vocab_size": 256}
    random = ModelConfig(name="r", source="random", **sizes)  # type: ignore[arg-type]
    one, two = load_model(random, FP32, CPU), load_model(random, FP32, CPU)
    assert not one.trained and one.fingerprint == two.fingerprint and one.tokenizer.name == "bytes"
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) and torch.isfinite(a).all() for a, b in pairs)


@pytest.mark.parametrize("source", ["random", "local"])
@pytest.mark.parametrize("tokenizer", ["", " "])
def test_a_blank_tokenizer_is_refused(tmp_path: Path, source: str, tokenizer: str, weights: dict[str, Tensor]) -> None:
    """And does not stand for one that is not given."""
    path = save_original(tmp_path / "m.pth", weights)
    sizes = {"hidden_size": 32, "num_blocks": 2, "head_size": 16, "intermediate_size": 64, "vocab_size": 256}
    config = ModelConfig(name="m", source=source, path=str(path), tokenizer=tokenizer, **sizes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"model\.tokenizer=.* (is empty|is blank|does not exist)"):
        model_source(config).check()


@pytest.mark.parametrize("number", GENERATIONS)
def test_a_skeleton_draws_no_numbers(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device PyTorch's `normal_` imports torch._dynamo, which would take a second of every command."""

    def draw(*_: object, **__: object) -> None:
        raise AssertionError("numbers are drawn")

    sizes = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "head_size": 8, "intermediate_size": 16}
    config = GENERATIONS[number].random_config(sizes)
    with torch.device("meta"):
        monkeypatch.setattr(torch.nn.init, "normal_", draw)
        model = GENERATIONS[number].build(config)
    assert model.embeddings.weight.shape == (8, 16) and model.embeddings.weight.requires_grad


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(name="l", source="local"), r"model\.path=null must be given"),
        (ModelConfig(name="h", source="hub"), r"model\.id must be given"),
        (ModelConfig(name="x", source="s3"), r"model\.source=s3 is not known: valid are assets, hub"),
        (ModelConfig(name="r", source="random", hidden_size=32), r"needs model\.num_blocks, which is None"),
        (
            ModelConfig("r", "random", None, None, None, None, 32, 2, 12, 64, 256),
            r"model\.hidden_size=32 is not a multiple of model\.head_size=12",
        ),
    ],
)
def test_an_incomplete_model_config_is_reported(config: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_source(config).shape()


def test_an_unreachable_hub_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    config = ModelConfig(name="finch", source="hub", id="RWKV/v6-Finch-1B6-HF", revision="abc", tokenizer="world")
    message = (
        r"RWKV/v6-Finch-1B6-HF at revision abc .*Name or service.*config\.json and pytorch_model\.bin.*model=local"
    )
    for attempt in (lambda: model_source(config).shape(), lambda: load_model(config, FP32, CPU)):
        with pytest.raises(UserError, match=message):
            attempt()


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pinned revision, `snapshot_download` tries for half a minute to list the files."""
    asked, downloads = [], []

    def unreachable(*arguments: object, **keys: object) -> None:
        asked.append(keys)
        raise OSError("Name or service not known")

    def download(*_: object, local_files_only: bool, **__: object) -> str:
        downloads.append(local_files_only)
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    config = ModelConfig(name="finch", source="hub", id="a/b", revision="0" * 40, tokenizer="bytes")
    with pytest.raises(UserError, match=r"could not be fetched .*Name or service not known"):
        model_source(config).shape()
    assert len(asked) == 1 and asked[0]["revision"] == "0" * 40 and downloads == [True]


def test_the_hub_is_asked_only_for_what_the_cache_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Tensor]
) -> None:
    """The cache holds config.json alone, as after a check of `layer`; the repository has .bin weights."""
    cache, calls = tmp_path / "cache", []
    save_folder(cache, weights, "bin")
    stored = (cache / "pytorch_model.bin").read_bytes()
    (cache / "pytorch_model.bin").unlink()

    def download(_: str, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        calls.append((local_files_only, allow_patterns[-1]))
        if not local_files_only and "pytorch_model*.bin*" in allow_patterns:
            (cache / "pytorch_model.bin").write_bytes(stored)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    config = ModelConfig(name="finch", source="hub", id="a/b", revision="c", tokenizer="bytes")
    assert model_source(config).shape().hidden_size == 32 and calls == [(True, "tokenizer.json")]
    assert load_model(config, FP32, CPU).trained
    assert calls[-1] == (False, "pytorch_model*.bin*") and (False, "model*.safetensors*") in calls
