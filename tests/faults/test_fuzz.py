"""Damaged checkpoints, folders and overrides by the hundred: a clear error in one line or a sound result, never another
exception, never a wrong number."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rwkv_sweep.config.error_messages import is_bad_input, one_line
from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.models.rwkv6.checkpoint import _to_original_name, fingerprint, read_weights
from rwkv_sweep.records.results import Result
from rwkv_sweep.records.sweep_record import SweepRecord
from tests.faults.fuzzing import ODD_NAME, ODD_TENSOR, SIZE, damaged, one_line_or, quietly

# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pth(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tiny model in the original layout."""
    from rwkv_sweep.models.rwkv6.export import load_causal_lm

    state = load_causal_lm(tiny_checkpoint).state_dict()
    path = tmp_path_factory.mktemp("pth") / "model.pth"
    torch.save({_to_original_name(name): weight for name, weight in state.items()}, path)
    return path.read_bytes()


@quietly
@given(data=st.data())
def test_damaged_pth(tmp_path: Path, pth: bytes, data: st.DataObject) -> None:
    """A zip file has a checksum for each of its parts, so turned bits in weights are found."""
    (tmp_path / "whole.pth").write_bytes(pth)  # a file of its own: tensors stay mapped from it
    _, whole = read_weights(tmp_path / "whole.pth")
    path = tmp_path / "model.pth"
    path.unlink(missing_ok=True)
    path.write_bytes(broken := damaged(pth, data))
    actual = one_line_or(lambda: read_weights(path))
    if actual is not None and broken != pth:
        assert all(torch.equal(weight, whole[name]) for name, weight in actual[1].items())


@quietly
@given(data=st.data())
def test_odd_pth(tmp_path: Path, pth: bytes, data: st.DataObject) -> None:
    """A whole file of `torch.save` with some tensors or names that no RWKV-6 has."""
    tensors = torch.load(io.BytesIO(pth), weights_only=True)
    whole = dict(tensors)
    for name in data.draw(st.lists(st.sampled_from(sorted(whole)), min_size=1, max_size=2, unique=True), "names"):
        if data.draw(st.booleans(), "tensor"):
            tensors[name] = data.draw(ODD_TENSOR)(whole[name])
        else:
            tensors[data.draw(ODD_NAME)(name)] = tensors.pop(name)
    torch.save(tensors, tmp_path / "odd.pth")
    actual = one_line_or(lambda: read_weights(tmp_path / "odd.pth"))
    if actual is not None:
        given = {name: whole[_to_original_name(name)] for name in actual[1]}
        assert all(torch.equal(tensor.flatten(), given[name].flatten()) for name, tensor in actual[1].items())


@quietly
@given(data=st.data())
def test_damaged_safetensors(tmp_path: Path, tiny_checkpoint: Path, data: st.DataObject) -> None:
    """The format has no checksums: what still reads as a model is another one by its fingerprint, so that its numbers
    are not taken for those of the original."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    original = (tiny_checkpoint / "model.safetensors").read_bytes()
    broken = damaged(original, data)
    (folder / "model.safetensors").write_bytes(broken)
    if one_line_or(lambda: read_weights(folder)) is not None and broken != original:
        assert fingerprint(folder) != fingerprint(tiny_checkpoint)


@quietly
@given(length=st.integers(0, 2**64 - 1), header=st.binary(max_size=100))
def test_made_up_safetensors_headers(tmp_path: Path, tiny_checkpoint: Path, length: int, header: bytes) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header)
    assert one_line_or(lambda: read_weights(folder)) is None


@quietly
@given(
    content=st.dictionaries(
        st.sampled_from(
            ["model_type", "vocab_size", "hidden_size", "num_hidden_layers", "head_size", "intermediate_size"]
        ),
        SIZE,
    )
)
def test_any_model_config(tmp_path: Path, tiny_checkpoint: Path, content: dict[str, Any]) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    whole = json.loads((tiny_checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, **content}))
    (folder / "model.safetensors").write_bytes((tiny_checkpoint / "model.safetensors").read_bytes())
    actual = one_line_or(lambda: read_weights(folder))
    assert actual is None or all(whole[key] == content[key] for key in content)


# --- what lies in our own folders ---------------------------------------------------------------------------------


@quietly
@given(data=st.data())
def test_damaged_store_entries(tmp_path: Path, data: st.DataObject) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    EmbeddingStore(tmp_path, 1.0).put("entry", array, {})
    path = tmp_path / data.draw(st.sampled_from(["entry.npy", "entry.json"]))
    path.write_bytes(damaged(path.read_bytes(), data))
    actual = EmbeddingStore(tmp_path, 1.0).get("entry")
    assert actual is None or np.array_equal(actual, array)


@quietly
@given(data=st.data())
def test_damaged_records(tmp_path: Path, data: st.DataObject) -> None:
    result = Result("a", "model", "FINISHED", {"layer": 1}, {"quality/spearman": 0.5}, {"b": "c"}, id="1", key="2")
    result.save(tmp_path)
    SweepRecord("a", None, ["layer"], ["mean"], None, {}, id="1").save(tmp_path)
    for name in ("result.json", "sweep.json"):
        path = tmp_path / name
        path.write_bytes(damaged(path.read_bytes(), data))
    one_line_or(lambda: Result.load(tmp_path))
    one_line_or(lambda: SweepRecord.load(tmp_path))


# --- overrides ----------------------------------------------------------------------------------------------------

KEYS = """
    layer precision pooling.name device.index device.threads model.path model bootstrap nothing dataset.splits arm
    configuration aggregation.weights timeout_s on_error store.max_gib batch_tokens +a.b ~store measure.latency_pairs
    hydra.sweep.dir tracking seed prompt.template postprocess.fit
"""
TEXTS = ("null", "[1,2", "{a:1}", "${x}", "${oc.env:NOPE}", "-1", "1e999", "nan", "a,b", "range(3)", "'", "\\")
KEY, TEXT = st.sampled_from(KEYS.split()), st.one_of(st.text(max_size=8), st.sampled_from(TEXTS))


@quietly
@given(overrides=st.lists(st.tuples(KEY, TEXT), min_size=1, max_size=3))
def test_any_overrides(overrides: list[tuple[str, str]]) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            run_config(compose("config", [f"{key}={value}" for key, value in overrides]))
        except Exception as error:
            assert is_bad_input(error), repr(error)
            assert one_line(error).strip() and "\n" not in one_line(error)
