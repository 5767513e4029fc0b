"""Weight files in both layouts, and one clear line for each way they can be wrong."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.generations import generation_of
from rwkv_sweep.models.pretrained.weight_files import check_shards
from rwkv_sweep.models.rwkv6.checkpoint import _to_model_name, _to_original_name, fingerprint, read_shape, read_weights
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM, load_causal_lm
from rwkv_sweep.models.rwkv6.network import Rwkv6Config
from tests.small_models import SIZES, checkpoint_lm, save_folder, save_original


@pytest.fixture(scope="module")
def model() -> Rwkv6ForCausalLM:
    return checkpoint_lm()


@pytest.fixture
def weights(model: Rwkv6ForCausalLM) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def assert_equal(actual: tuple[Rwkv6Config, dict[str, Tensor]], weights: dict[str, Tensor]) -> None:
    config, tensors = actual
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
    kept = {name: weight for name, weight in weights.items() if "blocks.1.a" not in name and "blocks.1.f" not in name}
    with pytest.raises(UserError, match=r"and 21 more \(24 in all\)"):
        read_weights(save_folder(tmp_path / "m", kept, "safetensors"))


def test_another_architecture_in_a_pth_is_reported(tmp_path: Path) -> None:
    torch.save({"wte.weight": torch.ones(4, 4)}, tmp_path / "gpt.pth")
    with pytest.raises(UserError, match=r"gpt\.pth holds a GPT-2 .*as wte\.weight shows: model=hf"):
        read_shape(tmp_path / "gpt.pth")


@pytest.mark.parametrize("path", ["nowhere", "nowhere.pth"])
def test_a_path_that_is_not_there(tmp_path: Path, path: str) -> None:
    for read in (read_shape, read_weights, fingerprint):
        with pytest.raises(UserError, match=rf"{path} does not exist: expected a folder with config.json"):
            read(tmp_path / path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"{folder} has no config\.json: expected a folder with config\.json and weights, or a \.pth file"),
        (["notes.txt"], r"{folder} has no config\.json: expected a folder"),
        (["goose.pth"], r"{folder} has no config\.json: model\.path={folder}/goose\.pth reads that file alone$"),
        (["a.safetensors", "b.pt"], r"model\.path={folder}/a\.safetensors reads that file alone \(or another of the 2"),
        (["model-00001-of-00002.safetensors"], r"{folder} has no config\.json: expected a folder"),
        (["m-Q4.gguf"], r"{folder} holds a GGUF file of llama\.cpp, which is not read: give the \.pth"),
    ],
)
def test_a_folder_without_config_names_what_it_holds(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    for read in (read_shape, read_weights, generation_of):
        with pytest.raises(UserError, match=message.format(folder=tmp_path)):
            read(tmp_path)


def test_a_gguf_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03\0\0\0" + bytes(64))
    with pytest.raises(UserError, match=r"m\.gguf is a GGUF file of llama\.cpp, which is not read: give the \.pth"):
        read_shape(tmp_path / "m.gguf")


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


@pytest.mark.parametrize("kind", ["zip", "before zip", "bare"])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_with_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, protocol: int
) -> None:
    path, content = tmp_path / "harm.pth", {"emb.weight": torch.ones(2, 2), "x": Harmful()}
    if kind == "bare":
        path.write_bytes(pickle.dumps({"x": Harmful()}, protocol=protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError, match=r"harm\.pth holds (builtins|__builtin__)\.print, which is code") as caught:
        read_weights(path)
    assert "weights_only" not in str(caught.value) and "damaged" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["load", "storage._load_from_bytes", "hub.load"])
def test_a_function_of_torch_is_code_too(tmp_path: Path, name: str) -> None:
    module, _, function = f"torch.{name}".rpartition(".")
    (tmp_path / "m.pth").write_bytes(f"c{module}\n{function}\n(S'x'\ntR.".encode())
    with pytest.raises(UserError, match=rf"holds torch\.{name}, which is code"):
        read_weights(tmp_path / "m.pth")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_without_code_that_torch_did_not_write(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.pth").write_bytes(pickle.dumps({"emb.weight": [1.0, 2.0]}, protocol=protocol))
    with pytest.raises(UserError, match=r"m\.pth (is damaged|holds dict with more)") as caught:
        read_weights(tmp_path / "m.pth")
    assert "weights_only" not in str(caught.value)


def test_a_torchscript_archive_is_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as parts:
        parts.writestr("m/data.pkl", pickle.dumps({}, protocol=2))
        parts.writestr("m/constants.pkl", pickle.dumps((), protocol=2))
        parts.writestr("m/version", "3")
    with pytest.raises(UserError, match=r"m\.pth is a TorchScript archive, which is code") as caught:
        read_weights(tmp_path / "m.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [{"state_dict": {}, "epoch": 3, "model": {}}, {"epoch": 3}, {"state_dict": {"a": 1}}, [torch.ones(2)]]
)
def test_a_pickle_with_more_than_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "run.pth")
    with pytest.raises(
        UserError, match=r"run\.pth holds (\w+ with more than tensors|weights under state_dict and model)"
    ):
        read_shape(tmp_path / "run.pth")


ODD_TENSORS = {
    "an integer key": (0, torch.ones(2), "holds a tensor under the key 0: expected a name"),
    "sparse": ("ln_out.weight", torch.eye(32).to_sparse(), r"ln_out\.weight is a sparse_coo tensor"),
    "sparse rows": ("ln_out.weight", torch.eye(32).to_sparse_csr(), r"ln_out\.weight is a sparse_csr tensor"),
    "without values": ("ln_out.weight", torch.empty(32, device="meta"), r"ln_out\.weight is a meta tensor"),
    "no head": ("blocks.0.att.time_faaaa", torch.ones(0, 16), r"time_faaaa is empty, of shape \[0, 16\]"),
    "heads of nothing": ("blocks.0.att.time_faaaa", torch.ones(2, 0), r"time_faaaa is empty, of shape \[2, 0\]"),
    "no row": ("emb.weight", torch.ones(0, 32), r"emb\.weight is empty, of shape \[0, 32\]"),
    "heads that do not fit": ("blocks.0.att.time_faaaa", torch.ones(2, 7), r"head_size=7 does not divide"),
    "a view of one number": ("emb.weight", torch.ones(1).expand(10**9, 10**9), "vocab_size=1000000000"),
    "a block far away": ("blocks.99999.ln1.weight", torch.ones(32), r"but none of blocks\.2"),
    "a block of many digits": (f"blocks.{'9' * 5000}.ln1.weight", torch.ones(32), r"but none of blocks\.2"),
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_odd_tensors_are_named(tmp_path: Path, weights: dict[str, Tensor], kind: str) -> None:
    name, tensor, message = ODD_TENSORS[kind]
    tensors: dict[object, Tensor] = {_to_original_name(name): weight for name, weight in weights.items()}
    torch.save({**tensors, name: tensor}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=message) as caught:
        read_weights(tmp_path / "odd.pth")
    assert "odd.pth" in str(caught.value) and len(str(caught.value)) < 600 + len(str(tmp_path))


def test_parameters_are_read_as_plain_tensors(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    named = {_to_original_name(name): torch.nn.Parameter(weight) for name, weight in weights.items()}
    torch.save(named, tmp_path / "m.pth")
    config, tensors = read_weights(tmp_path / "m.pth")
    assert_equal((config, tensors), weights)
    assert not any(tensor.requires_grad for tensor in tensors.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "gpt2"}, "model_type=gpt2, which is no RWKV-4 to 7: .*model=hf"),
        ({"model_type": "rwkv6"}, "lacks vocab_size, hidden_size, num_hidden_layers"),
        ({"model_type": "rwkv6", **SIZES, "head_size": 5}, "attention_hidden_size=32, which head_size=5 does not"),
        ({"model_type": "rwkv6", **SIZES, "hidden_size": "big"}, "hidden_size=big: valid is a whole number"),
        ({"model_type": "rwkv6", **SIZES, "layer_norm_epsilon": 0}, "layer_norm_epsilon=0: valid is"),
        ({"model_type": "rwkv"}, "an RWKV-4: here an RWKV-6 is expected"),
        ({"model_type": "rwkv7"}, "an RWKV-7: here an RWKV-6 is expected"),
        ({"model_type": ["x" * 999]}, "no name of a network"),
        ({"model_type": "rwkv6", **SIZES, "vocab_size": 10**18}, "vocab_size=1000000000000000000: valid is at most"),
        ({"model_type": "rwkv6", **SIZES, "head_size_divisor": 10**400}, r"head_size_divisor=10+\.\.\.0+: valid"),
        (
            {"model_type": "rwkv6", **SIZES, "num_hidden_layers": 10**5},
            "num_hidden_layers=100000: valid is at most",
        ),
        ([1], "holds a list: expected a JSON object"),
    ],
)
def test_a_wrong_config_is_reported(tmp_path: Path, content: object, message: str) -> None:
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
    with pytest.raises(UserError, match=r"m has no config\.json: expected a folder"):
        read_shape(folder)


# Shards: the index decides which of them a tensor is read from.


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    change(tensors)
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)


@pytest.mark.parametrize("layout", ["sharded safetensors", "sharded bin"])
@pytest.mark.parametrize("shard", [0, 1])
def test_a_tensor_in_two_shards_comes_from_the_one_that_the_index_names(
    tmp_path: Path, weights: dict[str, Tensor], layout: str, shard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_folder(tmp_path / "m", weights, layout)
    paths = sorted(folder.glob("*-of-00002.*"))
    held = set(load_file(paths[shard]) if paths[0].suffix == ".safetensors" else torch.load(paths[shard]))
    others = {name: torch.zeros_like(weight) for name, weight in weights.items() if name not in held}
    rewrite(paths[shard], lambda tensors: tensors.update(others))
    assert_equal(read_weights(folder), weights)
    assert "which the index places in another shard: read from there" in capsys.readouterr().err
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "a number of too many digits"),
        ('{"vocab_size": 1, "vocab_size": 2}', "has the key 'vocab_size' twice"),
        (b"\xff{}", "byte 0 is not UTF-8"),
    ],
)
def test_config_text_that_cannot_be_read(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        read_shape(tmp_path)
    assert "sys." not in str(caught.value)


def test_more_blocks_in_config_than_in_the_weights(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    folder = save_folder(tmp_path / "m", weights, "safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "rwkv6", **SIZES, "num_hidden_layers": 4000}))
    with pytest.raises(UserError, match="num_hidden_layers=4000, but the weights have 2 blocks"):
        read_weights(folder)


@pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, {"a": "../x"}, {"a": "b/c"}])
def test_an_index_without_a_valid_map(tmp_path: Path, weights: dict[str, Tensor], weight_map: object) -> None:
    folder = save_folder(tmp_path / "m", weights, "sharded bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=r"index\.json (has no weight_map|names the file)"):
        read_weights(folder)


# --- wrappers and other networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "module.model.", "_forward_module."]
)
@pytest.mark.parametrize("layout", ["original", "safetensors"])
def test_wrappers_are_removed_and_said(
    tmp_path: Path, weights: dict[str, Tensor], prefix: str, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if layout == "original":
        path = tmp_path / "m.pth"
        torch.save({prefix + _to_original_name(name): weight for name, weight in weights.items()}, path)
    else:
        path = save_folder(tmp_path / "m", {prefix + name: weight for name, weight in weights.items()}, layout)
    assert_equal(read_weights(path), weights)
    read_weights(path)
    assert capsys.readouterr().err.count("are read without") == 1


def test_a_wrapped_twin_is_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    folder = save_folder(tmp_path / "m", {**weights, "module.head.weight": weights["head.weight"]}, "bin")
    with pytest.raises(UserError, match=r"twice: head\.weight and module\.head\.weight are both head\.weight"):
        read_weights(folder)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "module"])
def test_nested_weights_are_read_and_said(
    tmp_path: Path, weights: dict[str, Tensor], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {_to_original_name(name): weight for name, weight in weights.items()}
    torch.save({key: named, "epoch": 3, "optimizer": {"step": 1}}, tmp_path / "m.pth")
    assert_equal(read_weights(tmp_path / "m.pth"), weights)
    assert f"under its key {key}" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["original", "safetensors"])
def test_no_head_is_needed(
    tmp_path: Path, weights: dict[str, Tensor], layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del weights["head.weight"]
    original = layout == "original"
    path = save_original(tmp_path / "m.pth", weights) if original else save_folder(tmp_path / "m", weights, layout)
    assert_equal(read_weights(path), weights)
    assert "has no head.weight, which embeddings do not need" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"no head\.weight, which a language model needs"):
        load_causal_lm(path)


OTHERS = {
    "blocks.0.att.r_k": "an RWKV-7, .*an RWKV-6 is expected",
    "module.blocks.0.att.r_k": "an RWKV-7, .*an RWKV-6 is expected",
    "blocks.0.att.time_mix_g": "an RWKV-5, .*an RWKV-6 is expected",
    "blocks.0.att.ln_x.weight": "an RWKV-5, .*an RWKV-6 is expected",
    "blocks.0.att.time_first": "an RWKV-4, .*an RWKV-6 is expected",
    "bert.embeddings.word_embeddings.weight": "a BERT .*model=hf",
    "transformer.wte.weight": "a GPT-2 .*model=hf",
    "model.layers.0.self_attn.q_proj.weight": "a Llama .*model=hf",
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_is_named(tmp_path: Path, name: str) -> None:
    torch.save({name: torch.ones(4, 4), "emb.weight": torch.ones(4, 4)}, tmp_path / "m.pth")
    with pytest.raises(UserError, match=rf"m\.pth holds {OTHERS[name]}"):
        read_weights(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [("wte.weight", "holds a GPT-2"), ("blocks.0.ln1.weight", "holds no tensor of a block of an RWKV-6, but blocks")],
)
def test_weights_that_are_not_those_of_the_config(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_weights(save_folder(tmp_path / "m", {name: torch.ones(2)}, "safetensors"))


@pytest.mark.parametrize("generation", [5, 7])
def test_published_files_of_other_generations_are_named(generation: int) -> None:
    path = Path(__file__).parents[4] / "shared" / "models" / f"rwkv{generation}-tiny-bytes.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with pytest.raises(UserError, match=f"holds an RWKV-{generation}, "):
        read_shape(path)
