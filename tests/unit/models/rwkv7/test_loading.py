"""RWKV-7 as a run meets it: named by a config, in every precision, with its audit, its state, and from each layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.pooling import STATE, vector_size
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.generations import generation_of
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config
from tests.generation_checks import LoadingChecks
from tests.rwkv7_checkpoints import Sizes, author_checkpoint, fla_names, linear_factors, native_names, numpy_layers
from tests.small_models import CPU, FP32, encoder_of

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(blocks=3, heads=2, head_size=64, wide=256, ranks=(16, 16, 8, 24))
SENTENCES = ["The cat sat on the mat.", "A", "A longer sentence than the first one was, with a comma."]
SETTINGS = {"model_type": "rwkv7", "hidden_size": 128, "num_hidden_layers": 3, "vocab_size": 256, "head_dim": 64}


def local(path: Path) -> ModelConfig:
    return ModelConfig(name="local", source="local", path=str(path), tokenizer="bytes")


def folder_of(path: Path, tensors: dict[str, Tensor], **settings: Any) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**SETTINGS, **settings}))
    save_file(tensors, path / "model.safetensors")
    return path


def checkpoints(folder: Path) -> list[Path]:
    """One model in the four layouts, and in a folder whose config.json calls it something else."""
    checkpoint = author_checkpoint(SIZES)
    torch.save(checkpoint, folder / "author.pth")
    return [
        folder / "author.pth",
        folder_of(folder / "fla", fla_names(checkpoint), norm_eps=1e-5),
        folder_of(folder / "transformers", native_names(checkpoint), norm_eps=1e-5),
        folder_of(folder / "linear", linear_factors(checkpoint), embedding_layer_norm_fused=True),
        folder_of(folder / "other_name", native_names(checkpoint), model_type="goose"),
    ]


@pytest.fixture
def author_file(tmp_path: Path) -> Path:
    path = tmp_path / "author.pth"
    torch.save(author_checkpoint(SIZES), path)
    return path


@pytest.fixture
def config(author_file: Path) -> ModelConfig:
    return local(author_file)


def test_every_layout_is_recognized_and_gives_the_same_vectors(tmp_path: Path) -> None:
    layers, actual = [EMBEDDING, 0, 1, 2, 3], []
    for path in checkpoints(tmp_path):
        config = local(path)
        shape = model_source(config).check()
        assert isinstance(shape, Rwkv7Config) and shape.num_hidden_layers == 3 and shape.decay_rank == 16
        assert model_source(config).shape().hidden_size == 128 and len(model_source(config).fingerprints()[0]) == 16
        actual.append(encoder_of(config).encode(SENTENCES, layers, ["mean"])["mean"])
    assert all(torch.equal(vectors, actual[0]) for vectors in actual[1:])
    expected = numpy_layers(author_checkpoint(SIZES), list(SENTENCES[0].encode())).mean(1)
    torch.testing.assert_close(actual[0][:, 0].double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_sizes_of_a_folder_whose_weights_are_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SETTINGS, "intermediate_size": None, "v_low_rank_dim": 32}))
    shape = model_source(local(tmp_path)).shape()
    assert shape == Rwkv7Config(256, 128, 3, 64, 0, 0, 0, 32, 0)
    for key, value in (("hidden_size", None), ("num_hidden_layers", "12"), ("vocab_size", 0), ("head_dim", 63)):
        (tmp_path / "config.json").write_text(json.dumps({**SETTINGS, key: value}))
        with pytest.raises(UserError, match=r"config\.json") as raised:
            model_source(local(tmp_path)).shape()
        assert key in str(raised.value).replace("head_size", "head_dim") and "\n" not in str(raised.value)


def test_the_state_is_pooled(author_file: Path) -> None:
    encoder = encoder_of(local(author_file))
    shape = encoder.loaded.model.config
    vectors = encoder.encode(SENTENCES, [0, 2], [STATE, "mean"])
    assert vectors[STATE].shape == (2, 3, vector_size(STATE, shape)) and vector_size(STATE, shape) == 2 * 64 * 64
    alone = encoder.encode(SENTENCES[:1], [2], [STATE])[STATE]
    torch.testing.assert_close(alone[0, 0], vectors[STATE][1, 0], rtol=1e-4, atol=1e-5)


KINDS = {
    "time_mix.receptance",
    "time_mix.key",
    "time_mix.value",
    "time_mix.output",
    "channel_mix.key",
    "channel_mix.value",
}


@pytest.mark.parametrize("modules", ["gate", ["time_mix.gate", "channel_mix.receptance"]])
def test_modules_that_this_generation_lacks_are_refused(author_file: Path, modules: object) -> None:
    precision = PrecisionConfig("some", "float32", "int8_dynamic", modules=modules)
    message = r"precision\.modules=.*names no linear layer .* valid are all, .*channel_mix\.value"
    with pytest.raises(UserError, match=message):
        load_model(local(author_file), precision, CPU)


def test_random_weights_are_of_the_generation_that_is_named() -> None:
    sizes: dict[str, Any] = {"hidden_size": 64, "num_blocks": 2, "head_size": 16, "intermediate_size": 96}
    config = ModelConfig(name="r", source="random", vocab_size=256, generation=7, **sizes)
    prints = {load_model(ModelConfig(**{**vars(config), "generation": g}), FP32, CPU).fingerprint for g in (None, 6, 7)}
    assert len(prints) == 2
    with pytest.raises(UserError, match=r"model\.generation=3 is not known: valid are "):
        model_source(ModelConfig(**{**vars(config), "generation": 3})).shape()


def test_both_generations_are_distinguished(shared_models: Path) -> None:
    numbers = {path.name[4]: generation_of(path).number for path in shared_models.glob("rwkv[67]-tiny-bytes.pth")}
    assert numbers == {"6": 6, "7": 7}


class TestLoading(LoadingChecks):
    generation = 7
    kinds: ClassVar = KINDS
    others: ClassVar = {"embedding", "vector", "low_rank"}
    chosen = "output"

    def numpy_layers(self, ids: list[int]) -> Any:
        return numpy_layers(author_checkpoint(SIZES), ids)
