"""Malformed inputs by the hundred: a clear error in one line or a sound result, never another exception, never a wrong
number."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rwkv_sweep.config import DatasetConfig, conf_dir, register_schemas
from rwkv_sweep.config_errors import is_bad_input, one_line
from rwkv_sweep.dataset import load_splits
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.checkpoint import fingerprint, read_weights
from rwkv_sweep.results import Result
from rwkv_sweep.store import EmbeddingStore
from rwkv_sweep.sweep_record import SweepRecord
from rwkv_sweep.validation import run_config

quietly = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "NA", "nan", "inf", "1e400", "0", "1", "-1", "0.5", '"', "\t", "\r", "\x00", "\ud7ff", "a\nb"]
    ),
)
SUFFIX = st.sampled_from([".tsv", ".csv", ".jsonl", ".json", ".parquet"])


def one_line_or(read: Callable[[], Any]) -> Any:
    """What `read` gives; None if it refuses with a UserError of one line."""
    try:
        return read()
    except UserError as error:
        assert str(error).strip() and "\n" not in str(error)
        return None


def check_pairs(path: Path) -> None:
    cfg = DatasetConfig(name="pairs", source="file", path=str(path), splits=["all"], word_split="punctuation")
    splits = one_line_or(lambda: load_splits(cfg))
    if splits is None:
        return
    (split,) = splits
    assert len(split.sentences1) == len(split.sentences2) == len(split.labels) >= 2
    assert np.isfinite(split.labels).all() and len(set(split.labels.tolist())) > 1
    assert all(text.strip() for text in split.sentences)


# --- data ---------------------------------------------------------------------------------------------------------


@quietly
@given(suffix=SUFFIX, content=st.binary(max_size=200))
def test_any_bytes_as_pairs(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(content)
    check_pairs(path)


@quietly
@given(
    suffix=st.sampled_from([".tsv", ".csv"]),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=5),
    header=st.sampled_from(
        [["sentence1", "sentence2", "label"], ["sentence1", "label"], ["label", "label", "sentence1"]]
    ),
)
def test_any_cells_as_pairs(tmp_path: Path, suffix: str, rows: list[list[str]], header: list[str]) -> None:
    path = tmp_path / f"pairs{suffix}"
    separator = "\t" if suffix == ".tsv" else ","
    lines = [separator.join(cells) for cells in [header, *rows]]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    check_pairs(path)


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CELL),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(CELL, inner, max_size=2)),
    max_leaves=4,
)


@quietly
@given(
    whole=st.booleans(),
    records=st.lists(
        st.one_of(VALUE, st.fixed_dictionaries({"sentence1": VALUE, "sentence2": VALUE, "label": VALUE})), max_size=4
    ),
)
def test_any_json_as_pairs(tmp_path: Path, whole: bool, records: list[Any]) -> None:
    path = tmp_path / ("pairs.json" if whole else "pairs.jsonl")
    path.write_text(json.dumps(records) if whole else "\n".join(map(json.dumps, records)), encoding="utf-8")
    check_pairs(path)


@quietly
@given(data=st.data())
def test_damaged_parquet(tmp_path: Path, data: st.DataObject) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"sentence1": ["a b", "c d", "e"], "sentence2": ["a", "b c", "d"], "label": [0.0, 1.0, 0.5]}
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    path.write_bytes(damaged(path.read_bytes(), data))
    check_pairs(path)


# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pth(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tiny model in the original layout."""
    from rwkv_sweep.models.checkpoint import _to_original_name
    from rwkv_sweep.models.loading import load_causal_lm

    state = load_causal_lm(tiny_checkpoint).state_dict()
    path = tmp_path_factory.mktemp("pth") / "model.pth"
    torch.save({_to_original_name(name): weight for name, weight in state.items()}, path)
    return path.read_bytes()


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Cut off, or with a few bits turned."""
    if data.draw(st.booleans(), "cut"):
        return content[: data.draw(st.integers(0, len(content) - 1), "length")]
    changed = bytearray(content)
    # Half of the bits in the first bytes, where a header is.
    place = st.one_of(st.integers(0, min(2000, len(content) - 1)), st.integers(0, len(content) - 1))
    for position in data.draw(st.lists(place, min_size=1, max_size=4), "bytes"):
        changed[position] ^= 1 << data.draw(st.integers(0, 7), "bit")
    return bytes(changed)


@quietly
@given(data=st.data())
def test_damaged_pth(tmp_path: Path, pth: bytes, data: st.DataObject) -> None:
    """A zip file has a checksum for each of its parts, so turned bits in weights are found."""
    (tmp_path / "whole.pth").write_bytes(pth)  # a file of its own: tensors stay mapped from it
    _, whole = read_weights(tmp_path / "whole.pth")
    path = tmp_path / "model.pth"
    path.unlink(missing_ok=True)
    path.write_bytes(broken := damaged(pth, data))
    found = one_line_or(lambda: read_weights(path))
    if found is not None and broken != pth:
        assert all(torch.equal(weight, whole[name]) for name, weight in found[1].items())


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
    content=st.dictionaries(st.sampled_from(["model_type", "vocab_size", "hidden_size", "num_hidden_layers"]), VALUE)
)
def test_any_model_config(tmp_path: Path, tiny_checkpoint: Path, content: dict[str, Any]) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    whole = json.loads((tiny_checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, **content}))
    (folder / "model.safetensors").write_bytes((tiny_checkpoint / "model.safetensors").read_bytes())
    found = one_line_or(lambda: read_weights(folder))
    assert found is None or all(whole[key] == content[key] for key in content)


# --- what lies in our own folders ---------------------------------------------------------------------------------


@quietly
@given(data=st.data())
def test_damaged_store_entries(tmp_path: Path, data: st.DataObject) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    EmbeddingStore(tmp_path, 1.0).put("entry", array, {})
    path = tmp_path / data.draw(st.sampled_from(["entry.npy", "entry.json"]))
    path.write_bytes(damaged(path.read_bytes(), data))
    found = EmbeddingStore(tmp_path, 1.0).get("entry")
    assert found is None or np.array_equal(found, array)


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
    aggregation.weights timeout_s on_error store.max_gib batch_tokens +a.b ~store measure.latency_pairs hydra.sweep.dir
    tracking seed prompt.template postprocess.fit
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
