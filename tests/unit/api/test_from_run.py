"""The encoder of a finished run gives the run's own scores, or says in one line why it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rwkv_sweep import Encoder
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.encoder_record import ENCODER_FILE, FITTED_FILE
from rwkv_sweep.records.results import BASELINE, FAILED, RESULT_FILE, Result
from tests.small_models import small_lm
from tests.small_runs import finish_run, score_difference, small_checkpoint, small_config, small_pairs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pairs(tmp_path_factory.mktemp("pairs") / "data")


KINDS = {
    "plain": ["layer=1"],
    "state": ["layer=1", "pooling=state"],
    "idf_transductive": ["layer=final", "pooling=idf"],
    "idf_of_a_split": ["layer=embedding", "pooling=idf", "pooling.fit=train"],
    "weighted": ["layer=all", "aggregation=weighted", "aggregation.weights=[0.2,-1.5,3]"],
    "learned": ["layer=all", "aggregation=learned", "aggregation.fit=train", "postprocess=center"],
    "concatenated": ["layer=[2,0]", "aggregation=concat", "aggregation.normalize=none", "postprocess=center"],
    "whitened": ["layer=2", "postprocess=whiten"],
    "whitened_by_a_split": ["layer=[0,2]", "aggregation=mean", "postprocess=whiten", "postprocess.fit=train"],
    "all_but_the_top": ["layer=final", "pooling=last", "postprocess=abtt", "postprocess.components=3"],
    "eos": ["layer=1", "pooling=eos", "model.eos_id=0"],
    "prompt": ["layer=1", "prompt=echo", "max_tokens=90"],
    "template": ["layer=1", "prompt=template", "pooling=position", "postprocess=center"],
    "values": ["layer=1", "pooling.source=values", "postprocess=center"],
    "time_mix_idf": ["layer=2", "pooling=idf", "pooling.source=time_mix"],
    "truncated": ["layer=1", "pooling=last", "max_tokens=7"],
    "nf4": ["layer=2", "precision=nf4"],
    "nf4_whitened_idf": ["layer=2", "precision=nf4", "pooling=idf", "postprocess=whiten"],
    "int8_dynamic": ["layer=2", "precision=int8_dynamic"],
    "int4": ["layer=2", "precision=int4"],
    "gptq": ["layer=2", "precision=int4", "precision.calibration=gptq", "precision.calibration_fit=train"],
    "fp16": ["layer=2", "precision=fp16"],
    "output_float16": ["layer=2", "output=float16"],
    "output_int8": ["layer=2", "output=int8", "output_fit=train"],
    "output_int8_whitened": ["layer=1", "output=int8", "output_fit=train", "postprocess=whiten"],
    "output_binary": ["layer=1", "output=binary", "postprocess=center"],
    "output_truncated": ["layer=2", "output=truncate_5"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_run(kind: str, checkpoint: Path, pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / kind
    finish_run(small_config(checkpoint, pairs, *KINDS[kind]), folder)
    encoder = Encoder.from_run(folder)
    assert score_difference(encoder, folder) < 1e-6
    assert encoder.encode("A cat.").shape == (encoder.get_sentence_embedding_dimension(),)


@pytest.fixture(scope="module")
def finished(checkpoint: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    finish_run(small_config(checkpoint, pairs, "layer=2", "postprocess=whiten", "pooling=idf"), folder)
    return folder


@pytest.fixture
def run(finished: Path, checkpoint: Path, tmp_path: Path) -> Path:
    """A run, and the weights beside it, that a test may spoil."""
    shutil.copytree(checkpoint, tmp_path / "weights")
    folder = shutil.copytree(finished, tmp_path / "run")
    content = json.loads((folder / ENCODER_FILE).read_text())
    content["config"]["model"]["path"] = "../weights"
    (folder / ENCODER_FILE).write_text(json.dumps(content))
    return folder


def test_other_layers_than_those_fitted_are_refused(run: Path) -> None:
    encoder = Encoder.from_run(run)
    assert encoder.encode(["A cat."], layers=2).shape == (1, encoder.get_sentence_embedding_dimension())
    with pytest.raises(UserError, match=r"layers=1 with an encoder of a run: its post-processing was fitted for lay"):
        encoder.encode(["A cat."], layers=1)


def changed_record(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / ENCODER_FILE).read_text())
        for name, value in changes.items():
            group, _, key = name.partition("__")
            if key:
                content[group][key] = value
            else:
                content[group] = value
        (folder / ENCODER_FILE).write_text(json.dumps(content))

    return change


def other_weights(folder: Path) -> None:
    small_lm(hidden_size=32, num_blocks=3, head_size=8, intermediate_size=64).save_pretrained(folder.parent / "weights")


def removed_weights(folder: Path) -> None:
    shutil.rmtree(folder.parent / "weights")


def other_fitted(folder: Path) -> None:
    arrays = load_file(folder / FITTED_FILE)
    arrays["mean_D"] = arrays["mean_D"] + 1
    save_file(arrays, folder / FITTED_FILE)


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def failed_run(folder: Path) -> None:
    (folder / ENCODER_FILE).unlink()
    Result("layer=2", "model", FAILED, {}).save(folder)


def baseline(folder: Path) -> None:
    (folder / ENCODER_FILE).unlink()
    Result("word_overlap", BASELINE, FAILED, {}).save(folder)


def sweep(folder: Path) -> None:
    (folder / ENCODER_FILE).unlink()
    (folder / RESULT_FILE).unlink()
    (folder / "sweep.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_weights, r"weights does not have the weights of the run \(fingerprint \w+, of the run \w+\): valid"),
        (removed_weights, r"model\.path=.*weights does not exist: valid is"),
        (other_fitted, r"fitted\.safetensors is damaged: its SHA-256 is not"),
        (removed(FITTED_FILE), r"fitted\.safetensors cannot be read \(No such file"),
        (removed(ENCODER_FILE), r"has no encoder\.json \(it is of a version that kept none"),
        (failed_run, r"is a run with status FAILED, which left no encoder"),
        (baseline, r"is the baseline word_overlap, which has no encoder"),
        (sweep, r"is the folder of a sweep: valid is that of one of its runs, such as .*run/0"),
        (changed_record(reference=[0.9] * 3), r"not computed here: cosines of reference texts differ by up to"),
        (changed_record(reference=[]), r"not computed here"),
        (changed_record(config__layer=1), r"not computed here: .*\(cpu, numpy [\d.]+, rwkv_sweep"),
        (changed_record(config__pooling={"name": "mean"}), r"not computed here"),
        (changed_record(config__pooling={"name": "median"}), r"pooling\.name=median is not known"),
        (changed_record(config__new_key=1), r"another version of this program, or damaged: .*new_key"),
        (changed_record(fitted_sha256=None), r"has postprocess=whiten and nothing that was fitted"),
        (changed_record(tokenizer_fingerprint="0" * 16), r"does not have the tokenizer of the run"),
        (changed_record(dimension="many"), r"encoder\.json is damaged: dimension is \"many\", not a count"),
    ],
)
def test_what_would_give_other_vectors_is_refused(run: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(run)
    with pytest.raises(UserError, match=message) as refused:
        Encoder.from_run(run)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", r"run=.*nowhere does not exist: valid is the folder of a finished run"),
        ("", r"holds no encoder\.json: valid is"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Encoder.from_run(tmp_path / place)


@pytest.mark.parametrize("place", ["runs:/me", "models:/", "models:/name/latest", "runs:/" + "0" * 31])
def test_what_mlflow_cannot_have_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(UserError, match=r"there is no .*none\.db: valid is where the run was tracked"):
        Encoder.from_run(place, tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_known_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"device=tpu is not known: valid are auto, cpu, cuda"):
        Encoder.from_run(run, device="tpu")


def test_random_weights_make_an_encoder_too(pairs: Path, tmp_path: Path) -> None:
    sizes = ("hidden_size=32", "num_blocks=2", "head_size=8", "intermediate_size=64", "vocab_size=256")
    overrides = ("model=random", "model.path=null", *(f"model.{size}" for size in sizes), "layer=1")
    finish_run(small_config(tmp_path, pairs, *overrides), tmp_path / "run")
    vectors_SD = Encoder.from_run(tmp_path / "run").encode(["A cat.", "Rain."])
    assert vectors_SD.shape == (2, 32) and np.isfinite(vectors_SD).all()
