"""Weight files in both layouts, and one clear line for each way they can be wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.checkpoint import _to_model_name, _to_original_name, fingerprint, read_shape, read_weights
from rwkv_sweep.models.rwkv6 import Rwkv6Config
from rwkv_sweep.models.rwkv6_hf import Rwkv6ForCausalLM, load_causal_lm
from rwkv_sweep.models.weight_files import check_shards
from tests.small_models import SIZES, checkpoint_lm, save_folder, save_original


@pytest.fixture(scope="module")
def model() -> Rwkv6ForCausalLM:
    return checkpoint_lm()


@pytest.fixture
def weights(model: Rwkv6ForCausalLM) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def assert_equal(found: tuple[Rwkv6Config, dict[str, Tensor]], weights: dict[str, Tensor]) -> None:
    config, tensors = found
    assert {key: getattr(config, key) for key in SIZES} == SIZES
    assert set(tensors) == set(weights)
    assert all(
        torch.equal(tensors[name], weight) and tensors[name].shape == weight.shape for name, weight in weights.items()
    )


@pytest.mark.parametrize("layout", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_folder_round_trip(tmp_path: Path, weights: dict[str, Tensor], layout: str) -> None:
    folder = save_folder(tmp_path / "model", weights, layout)
    assert read_shape(folder).num_hidden_layers == 2
    assert_equal(read_weights(folder), weights)


def test_folder_that_transformers_saved(tmp_path: Path, model: Rwkv6ForCausalLM, weights: dict[str, Tensor]) -> None:
    model.save_pretrained(tmp_path)
    assert_equal(read_weights(tmp_path), weights)
    assert all(torch.equal(w, weights[n]) for n, w in load_causal_lm(tmp_path).state_dict().items())


@pytest.mark.parametrize("flat", [False, True])
def test_original_round_trip(tmp_path: Path, weights: dict[str, Tensor], flat: bool) -> None:
    path = save_original(tmp_path / "model.pth", weights, flat)
    assert {key: getattr(read_shape(path), key) for key in SIZES} == SIZES
    assert_equal(read_weights(path), weights)


def test_original_in_the_old_pickle_format(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "old.pth"
    named = {_to_original_name(name): weight for name, weight in weights.items()}
    torch.save(named, path, _use_new_zipfile_serialization=False)
    assert_equal(read_weights(path), weights)


def test_names_go_both_ways(weights: dict[str, Tensor]) -> None:
    assert [_to_model_name(_to_original_name(name)) for name in weights] == list(weights)
    assert _to_original_name("rwkv.blocks.0.pre_ln.weight") == "blocks.0.ln0.weight"
    assert _to_original_name("rwkv.blocks.11.attention.ln_x.bias") == "blocks.11.att.ln_x.bias"


def drop(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.pop(name)


def put(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.__setitem__(name, tensor)


BROKEN = [
    (drop("head.weight"), r"missing: head\.weight$"),
    (drop("rwkv.blocks.1.attention.gate.weight"), r"missing: .*blocks\.1\.att\w*\.gate\.weight$"),
    (put("rwkv.blocks.0.attention.time_state", torch.ones(2)), r"unexpected: .*blocks\.0\.att\w*\.time_state$"),
    (put("rwkv.ln_out.weight", torch.ones(33)), r"another shape: .*ln_out\.weight \[33\] \(expected \[32\]\)"),
    (put("head.weight", torch.ones(32, 256)), r"another shape: head\.weight \[32, 256\] \(expected \[256, 32\]\)"),
    (put("rwkv.ln_out.bias", torch.ones(32, dtype=torch.int8)), r"another dtype: .*ln_out\.bias torch\.int8"),
    (put("rwkv.ln_out.bias", torch.full((32,), float("nan"))), r"ln_out\.bias holds NaN or infinity"),
    (put("rwkv.ln_out.bias", torch.full((32,), -float("inf"))), r"ln_out\.bias holds NaN or infinity"),
]


@pytest.mark.parametrize("layout", ["original", "safetensors", "bin"])
@pytest.mark.parametrize(("harm", "message"), BROKEN)
def test_wrong_tensors_are_named(
    tmp_path: Path, weights: dict[str, Tensor], layout: str, harm: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    harm(weights)
    original = layout == "original"
    path = save_original(tmp_path / "m.pth", weights) if original else save_folder(tmp_path / "m", weights, layout)
    with pytest.raises(UserError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)


def test_many_missing_tensors_are_counted(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    kept = {name: weight for name, weight in weights.items() if "blocks.1" not in name}
    with pytest.raises(UserError, match=r"and 25 more \(28 in all\)"):
        read_weights(save_folder(tmp_path / "m", kept, "safetensors"))


def test_another_architecture_in_a_pth_is_told(tmp_path: Path) -> None:
    torch.save({"wte.weight": torch.ones(4, 4)}, tmp_path / "gpt.pth")
    with pytest.raises(UserError, match=r"gpt\.pth is not an original RWKV-6 checkpoint: it has no matrix emb\.weight"):
        read_shape(tmp_path / "gpt.pth")


@pytest.mark.parametrize("path", ["nowhere", "nowhere.pth"])
def test_a_path_that_is_not_there(tmp_path: Path, path: str) -> None:
    for read in (read_shape, read_weights, fingerprint):
        with pytest.raises(UserError, match=rf"{path} does not exist: expected a folder with config.json"):
            read(tmp_path / path)


@pytest.mark.parametrize("layout", ["original", "safetensors", "bin"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_named(tmp_path: Path, weights: dict[str, Tensor], layout: str, keep: float) -> None:
    if layout == "original":
        path = file = save_original(tmp_path / "m.pth", weights)
    else:
        path = save_folder(tmp_path / "m", weights, layout)
        file = path / ("model.safetensors" if layout == "safetensors" else "pytorch_model.bin")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    with pytest.raises(UserError, match=rf"{file.name} is damaged"):
        read_weights(path)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code in a pickle ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool) -> None:
    path = tmp_path / "harm.pth"
    if zipped:
        torch.save({"emb.weight": Harmful()}, path)
    else:
        path.write_bytes(pickle.dumps({"emb.weight": Harmful()}))
    with pytest.raises(UserError, match=r"harm\.pth (holds \S*print, which is code|is damaged)"):
        read_weights(path)
    assert "ran" not in capsys.readouterr().out


def test_a_pickle_with_more_than_tensors_is_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "run.pth")
    with pytest.raises(UserError, match=r"run\.pth holds dict with more than tensors"):
        read_shape(tmp_path / "run.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "gpt2"}, "model_type=gpt2: only rwkv6 can be read"),
        ({"model_type": "rwkv6"}, "lacks vocab_size, hidden_size, num_hidden_layers"),
        ({"model_type": "rwkv6", **SIZES, "head_size": 5}, "attention_hidden_size=32, which head_size=5 does not"),
        ({"model_type": "rwkv6", **SIZES, "hidden_size": "big"}, "hidden_size=big: valid is a whole number"),
        ({"model_type": "rwkv6", **SIZES, "layer_norm_epsilon": 0}, "layer_norm_epsilon=0: valid is"),
        ([1], "holds a list: expected a JSON object"),
    ],
)
def test_a_wrong_config_is_told(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_shape(tmp_path)


def test_a_folder_without_config_weights_or_shards(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    folder = save_folder(tmp_path / "m", weights, "sharded safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"index\.json names model-00002-of-00002\.safetensors that are not"):
        read_weights(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match=r"holds no weights: expected one of model\.safetensors"):
        read_weights(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not valid JSON"):
        read_shape(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        read_shape(folder)


# Shards: the index decides which of them a tensor is read from.


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    change(tensors)
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)


@pytest.mark.parametrize("layout", ["sharded safetensors", "sharded bin"])
@pytest.mark.parametrize("shard", [0, 1])
def test_a_tensor_in_two_shards_comes_from_the_one_that_the_index_names(
    tmp_path: Path, weights: dict[str, Tensor], layout: str, shard: int
) -> None:
    folder = save_folder(tmp_path / "m", weights, layout)
    paths = sorted(folder.glob("*-of-00002.*"))
    held = set(load_file(paths[shard]) if paths[0].suffix == ".safetensors" else torch.load(paths[shard]))
    others = {name: torch.zeros_like(weight) for name, weight in weights.items() if name not in held}
    rewrite(paths[shard], lambda tensors: tensors.update(others))
    assert_equal(read_weights(folder), weights)
    with pytest.raises(
        UserError, match=r"holds .* and \d+ more \(\d+ in all\), which the index places in another shard"
    ):
        check_shards(folder)


CONTRADICTIONS: dict[str, tuple[int, Callable[[dict[str, Tensor]], object], str]] = {
    "a tensor is gone": (
        1,
        drop("rwkv.ln_out.weight"),
        r"00002\S* does not hold rwkv\.ln_out\.weight, which the index pl",
    ),
    "a tensor more": (0, put("spare", torch.ones(2)), r"00001\S* holds spare, which the index does not name"),
    "one by another name": (1, lambda w: w.update(odd=w.pop("head.weight")), r"does not hold head\.weight, which the"),
}


@pytest.mark.parametrize("layout", ["sharded safetensors", "sharded bin"])
@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_shards_that_contradict_their_index(tmp_path: Path, weights: dict[str, Tensor], layout: str, case: str) -> None:
    shard, harm, message = CONTRADICTIONS[case]
    folder = save_folder(tmp_path / "m", weights, layout)
    check_shards(folder)
    rewrite(sorted(folder.glob("*-of-00002.*"))[shard], harm)
    for read in (read_weights, check_shards):
        with pytest.raises(UserError, match=message):
            read(folder)


def test_an_index_that_swaps_two_tensors_is_another_model(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    folder = save_folder(tmp_path / "m", weights, "sharded safetensors")
    paths = sorted(folder.glob("*-of-00002.*"))
    rewrite(paths[0], lambda tensors: tensors.update({"rwkv.ln_out.bias": torch.full((32,), 3.0)}))
    before = fingerprint(folder)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["rwkv.ln_out.bias"] = paths[0].name
    index.write_text(json.dumps(content))
    assert read_weights(folder)[1]["rwkv.ln_out.bias"].eq(3).all()
    assert fingerprint(folder) != before


def test_fingerprint_follows_weights_and_config(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    folder = save_folder(tmp_path / "m", weights, "safetensors")
    first = fingerprint(folder)
    assert len(first) == 16 and fingerprint(save_folder(tmp_path / "copy", weights, "safetensors")) == first
    (folder / "config.json").write_text(json.dumps({"model_type": "rwkv6", **SIZES, "head_size": 8}))
    second = fingerprint(folder)
    weights["head.weight"][0, 0] += 1
    third = fingerprint(save_folder(tmp_path / "m", weights, "safetensors"))
    assert len({first, second, third}) == 3
