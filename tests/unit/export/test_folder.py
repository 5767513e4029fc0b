"""A run's encoder as a folder that stands alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model

from rwkv_sweep import Encoder
from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.errors import BAD_INPUT, UserError
from rwkv_sweep.export.folder import export_run
from rwkv_sweep.records.encoder_record import ENCODER_FILE
from rwkv_sweep.tracking.saved_models import EXAMPLE
from tests.small_models import save_original, small_lm
from tests.small_runs import finish_run, small_checkpoint, small_config, small_pairs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pairs(tmp_path_factory.mktemp("pairs") / "data")


def folder_model(root: Path) -> list[str]:
    return [f"model.path={small_checkpoint(root / 'weights')}"]


def original_file(root: Path) -> list[str]:
    model = small_lm(hidden_size=32, num_blocks=3, head_size=8)
    (root / "weights").mkdir()
    return [f"model.path={save_original(root / 'weights' / 'small.pth', model.state_dict())}"]


def named_tokenizer(root: Path) -> list[str]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1, "rain": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    checkpoint = small_checkpoint(root / "weights")
    tokenizer.save(str(root / "weights" / "words.json"))
    return [f"model.path={checkpoint}", f"model.tokenizer={root / 'weights' / 'words.json'}"]


def random_weights(root: Path) -> list[str]:
    sizes = {"hidden_size": 32, "num_blocks": 2, "head_size": 8, "intermediate_size": 64, "vocab_size": 256}
    return ["model=random", "model.path=null", *(f"model.{name}={size}" for name, size in sizes.items())]


@pytest.mark.parametrize("model", [folder_model, original_file, named_tokenizer, random_weights])
@pytest.mark.parametrize("link", [False, True])
def test_it_gives_the_same_vectors_alone(
    model: Callable[[Path], list[str]], link: bool, pairs: Path, tmp_path: Path
) -> None:
    run = small_config(tmp_path / "weights", pairs, *model(tmp_path), "layer=1", "pooling=idf")
    result = finish_run(run, tmp_path / "run")
    expected_SD = Encoder.from_run(tmp_path / "run").encode(EXAMPLE)
    export_run(str(tmp_path / "run"), tmp_path / "new" / "out", link)
    shutil.rmtree(tmp_path / "run")
    moved = (tmp_path / "new" / "out").rename(tmp_path / "moved")
    if not link and (tmp_path / "weights").is_dir():
        shutil.rmtree(tmp_path / "weights")
    encoder = Encoder.from_run(moved)
    np.testing.assert_array_equal(encoder.encode(EXAMPLE), expected_SD)
    assert all(file.is_symlink() is link for file in (moved / "model").glob("*"))
    assert str(tmp_path) not in (moved / ENCODER_FILE).read_text()
    card = (moved / "README.md").read_text()
    assert "quality/spearman" not in result.metrics or f"{result.metrics['quality/spearman']:.3f} [" in card
    assert not list((tmp_path / "new").iterdir()), "nothing unfinished stays"


def test_mlflow_loads_it(pairs: Path, tmp_path: Path) -> None:
    finish_run(small_config(tmp_path, pairs, *folder_model(tmp_path), "layer=1"), tmp_path / "run")
    export_run(str(tmp_path / "run"), tmp_path / "out", link=True)
    model = mlflow.pyfunc.load_model(str(tmp_path / "out"))
    expected_SD = Encoder.from_run(tmp_path / "out").encode(EXAMPLE)
    for texts in (EXAMPLE, pd.DataFrame({"text": EXAMPLE}), np.array(EXAMPLE)):
        np.testing.assert_allclose(model.predict(texts), expected_SD, atol=1e-6)
    described = Model.load(str(tmp_path / "out"))
    assert described.load_input_example(str(tmp_path / "out")) == EXAMPLE
    assert described.signature is not None and described.signature.outputs.inputs[0].shape == (-1, 32)


def other_weights(root: Path) -> None:
    small_checkpoint(root / "weights", intermediate_size=64)


def mismatched_tokenizer(root: Path) -> None:
    content = json.loads((root / "run" / ENCODER_FILE).read_text())
    content["config"]["model"]["foreign_tokenizer"] = "bytes"
    content["tokenizer_fingerprint"] = Encoder.from_config(
        "model=local", f"model.path={root / 'weights'}", "model.tokenizer=bytes", "model.foreign_tokenizer=bytes"
    )._fitted.encoder.loaded.tokenizer.fingerprint
    (root / "run" / ENCODER_FILE).write_text(json.dumps(content))


def a_full_folder(root: Path) -> None:
    (root / "out").mkdir()
    (root / "out" / "mine.txt").write_text("mine")


def a_file(root: Path) -> None:
    (root / "out").write_text("mine")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_weights, r"does not have the weights of the run"),
        (mismatched_tokenizer, r"model\.foreign_tokenizer=bytes: an encoder with a mismatched tokenizer is not exp"),
        (a_full_folder, r"OUT=.*out is there already: valid is a folder to be made, or an empty one"),
        (a_file, r"OUT=.*out is a file: valid is a folder to be made"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    spoil: Callable[[Path], None], message: str, pairs: Path, tmp_path: Path
) -> None:
    finish_run(small_config(tmp_path, pairs, *folder_model(tmp_path), "layer=1"), tmp_path / "run")
    spoil(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        export_run(str(tmp_path / "run"), tmp_path / "out", link=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run(small_config(tmp_path, pairs, *folder_model(tmp_path), "layer=1"), tmp_path / "run")
    out = str(tmp_path / "out")
    assert run_verb("export", [str(tmp_path / "run"), out]) == 0 and capsys.readouterr().out == f"{out}\n"
    assert run_verb("export", [str(tmp_path), str(tmp_path / "other")]) == BAD_INPUT
    assert "holds no encoder.json" in capsys.readouterr().err and not (tmp_path / "other").exists()
