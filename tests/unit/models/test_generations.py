"""The table of generations: what a further one must bring, and that nothing else needs to know of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.config.validation import CHOICES
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.generations import GENERATIONS, generation_of
from rwkv_sweep.models.loading import SOURCES, load_model, model_source
from rwkv_sweep.models.rwkv6.network import Rwkv6Model
from tests.small_models import CPU, FP32, random_config


class Rwkv9Model(Rwkv6Model):
    """A generation that nobody has published: RWKV-6 under another name."""


@pytest.fixture
def ninth(monkeypatch: pytest.MonkeyPatch) -> None:
    six = GENERATIONS[6]
    nine = replace(
        six,
        number=9,
        model_types=("rwkv9",),
        recognizes=lambda names: any(name.endswith(".nine") for name in names),
        build=Rwkv9Model,
    )
    monkeypatch.setitem(GENERATIONS, 9, nine)


@pytest.mark.usefixtures("ninth")
def test_a_further_generation_is_a_line_in_the_table(tmp_path: Path) -> None:
    config = ModelConfig(**{**vars(random_config()), "generation": 9})
    loaded = load_model(config, FP32, CPU)
    assert isinstance(loaded.model, Rwkv9Model)
    six = model_source(random_config())
    assert model_source(config).shape() == six.shape() and model_source(config).fingerprints() != six.fingerprints()
    assert loaded.model.parameter_count() == sum(weight.numel() for weight in loaded.model.parameters())


@pytest.mark.usefixtures("ninth")
@pytest.mark.parametrize(
    ("model_type", "name", "number"),
    [
        ("rwkv9", "any", 9),
        ("another", "blocks.0.att.nine", 9),
        ("another", "blocks.0.att.r_k", 7),
        ("another", "blocks.0.att.time_maa_w1", 6),
        ("another", "any", 6),
        ("rwkv7", "blocks.0.att.nine", 7),
    ],
)
def test_config_json_decides_then_the_tensors(tmp_path: Path, model_type: str, name: str, number: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    save_file({name: torch.zeros(1)}, tmp_path / "model.safetensors")
    assert generation_of(tmp_path).number == number


@pytest.mark.parametrize("number", [-1, 0, 8])
def test_an_unknown_generation_is_refused_with_those_that_there_are(number: int) -> None:
    config = ModelConfig(**{**vars(random_config()), "generation": number})
    known = ", ".join(map(str, GENERATIONS))
    with pytest.raises(UserError, match=rf"model\.generation={number} is not known: valid are {known}"):
        model_source(config).check()


def test_each_source_that_a_config_may_name_has_a_kind_of_model() -> None:
    assert tuple(SOURCES) == CHOICES["model.source"]


@pytest.mark.parametrize("number", GENERATIONS)
def test_drawn_weights_are_all_there_and_those_of_the_seed(number: int) -> None:
    generation = GENERATIONS[number]
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "head_size": 32, "intermediate_size": 128, "vocab_size": 50}
    config = generation.random_config(dict(sizes))
    with torch.device("meta"):
        expected = generation.build(config)
    first, again, other = (generation.draw(config, seed, CPU).state_dict() for seed in (0, 0, 1))
    assert {name: (weight.shape, weight.dtype) for name, weight in first.items()} == {
        name: (weight.shape, weight.dtype) for name, weight in expected.state_dict().items()
    }
    assert all(weight.device == CPU and bool(torch.isfinite(weight).all()) for weight in first.values())
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert any(not torch.equal(weight, other[name]) for name, weight in first.items())
