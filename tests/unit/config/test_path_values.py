"""Every function that takes a key's path, with every kind of path that cannot be: one line that names the key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rwkv_sweep.config.path_values import existing, refusals_of, require_folder_to_be, shown_path
from rwkv_sweep.config.schema import DatasetConfig, ModelConfig, PoolingConfig, StoreConfig, TrackingConfig
from rwkv_sweep.data.corpus import load_corpus
from rwkv_sweep.data.splits import check_dataset
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.word_baselines.word_vectors import load_word_vectors
from rwkv_sweep.models.pretrained.locate import local_path
from rwkv_sweep.models.pretrained.mismatched_tokenizer import foreign_tokenizer
from rwkv_sweep.models.pretrained.tokenizers import load_tokenizer
from rwkv_sweep.models.transformers.source import TransformersModel
from rwkv_sweep.sweep.folder_checks import check_places, check_store, named_root
from rwkv_sweep.tracking import check_tracking
from tests.odd_paths import ABSENT, IMPOSSIBLE, PERMISSIONS

PAIRS = DatasetConfig(name="pairs", source="file", id=None, splits=["all"])


def folder_of_run(path: str) -> None:
    check_places(named_root(path, "hydra.run.dir").absolute(), False, [])


def check_artifacts(path: str) -> None:
    check_tracking(TrackingConfig(True, "sqlite:///mlflow.db", path, "e"))


def check_uri(path: str) -> None:
    check_tracking(TrackingConfig(True, f"sqlite:///{path}", "artifacts", "e"))


READ: dict[str, Callable[[str], object]] = {
    "dataset.path": lambda path: check_dataset(DatasetConfig(name="pairs", source="file", path=path, splits=["all"])),
    "model.path": lambda path: local_path(ModelConfig(name="local", source="local", path=path)),
    "model.path ": lambda path: TransformersModel(ModelConfig(name="hf", source="hf", path=path)).folder(),
    "model.tokenizer": lambda path: load_tokenizer(path, None, 512),
    "model.foreign_tokenizer": lambda path: foreign_tokenizer(path, 512),
    "word_vectors.path": load_word_vectors,
    "pooling.corpus": lambda path: load_corpus(PoolingConfig(name="idf", corpus=path), PAIRS),
}
"""Keys of what is read. Of `model.path` there are two readers."""
MADE: dict[str, Callable[[str], object]] = {
    "store.path": lambda path: check_store(StoreConfig(True, path)),
    "tracking.artifacts": check_artifacts,
    "tracking.uri": check_uri,
    "hydra.run.dir": folder_of_run,
}
"""Keys of what may be made."""
A_FILE = ("a file", "a file without permission")
"""What some keys take, by its kind if not by its content."""


@pytest.mark.parametrize("kind", {**IMPOSSIBLE, **ABSENT})
@pytest.mark.parametrize("key", READ)
def test_what_cannot_be_read(key: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "a file" and key not in ("dataset.path", "model.path "):
        pytest.skip("what the key takes, but for its content")
    check_refused(READ[key], key.strip(), {**IMPOSSIBLE, **ABSENT}[kind](tmp_path), tmp_path)


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("key", MADE)
def test_what_cannot_be_made(key: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "blank" and key == "tracking.uri":
        pytest.skip("a name like any other")
    check_refused(MADE[key], key, IMPOSSIBLE[kind](tmp_path), tmp_path)


@pytest.mark.parametrize("kind", PERMISSIONS)
@pytest.mark.parametrize("key", {**READ, **MADE})
def test_what_permissions_forbid(key: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (probe := tmp_path / "probe").mkdir(mode=0)
    if os.access(probe, os.R_OK):
        pytest.skip("permissions do not bind the superuser; tests/faults gives that right up")
    path = PERMISSIONS[kind](tmp_path)
    if key == "store.path" and kind not in A_FILE:
        MADE[key](path)  # a cache: runs go on without it
    else:
        check_refused({**READ, **MADE}[key], key.strip(), path, tmp_path)


def check_refused(read: Callable[[str], object], key: str, value: str, folder: Path) -> None:
    before = sorted(os.listdir(folder))
    with pytest.raises(UserError) as error:
        read(value)
    message = str(error.value)
    assert message.startswith(f"{key}=") and "valid is " in message.replace("valid are ", "valid is "), message
    assert message.isprintable() and len(message) < 900, message
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("kind", ABSENT)
@pytest.mark.parametrize("key", MADE)
def test_what_is_not_there_is_made_later(key: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    MADE[key](ABSENT[kind](tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("below a file", "is below FOLDER/file.txt, which is not a folder"),
        ("a pipe", "is a pipe"),
        ("a socket", "is a socket"),
        ("/dev/null", "is a device"),
        ("a link to nothing", "is a symbolic link to nothing"),
        ("a loop of links", "leads through a loop of symbolic links"),
        ("a name of 300 bytes", "has a name of 300 bytes, more than 255"),
        ("5,000 bytes", "cannot be used: File name too long"),
        ("a NUL", "holds a NUL"),
        ("not UTF-8", "is not valid UTF-8"),
        ("blank", "is empty"),
        ("nothing there", "does not exist"),
        ("a home of nobody", "names the home folder of a user that this system does not know"),
    ],
)
def test_the_reason_is_said(kind: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        existing("key", {**IMPOSSIBLE, **ABSENT}[kind](tmp_path), "this")
    assert reason.replace("FOLDER", str(tmp_path)) in str(error.value)
    assert str(error.value).endswith(": valid is this")


def test_what_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through links too, and below the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    assert existing("key", "~/link", "a file", folder=False) == tmp_path / "link"
    assert existing("key", str(tmp_path), "a folder", file=False) == tmp_path
    require_folder_to_be("key", str(tmp_path / "new" / "folder"), "a folder")
    (tmp_path / "linked").symlink_to(tmp_path)
    require_folder_to_be("key", str(tmp_path / "linked" / "new"), "a folder")


def test_the_systems_refusal_names_the_key_whose_path_it_is(tmp_path: Path) -> None:
    inside = tmp_path / "model" / "config.json"
    message = r"^model.path=.*model cannot be read \(.*config.json: No such file"
    with pytest.raises(UserError, match=message), refusals_of("model.path", str(tmp_path / "model")):
        inside.open()
    for value in (str(tmp_path / "mod"), None):
        with pytest.raises(FileNotFoundError), refusals_of("model.path", value):
            inside.open()


def test_a_shown_path_is_short_and_can_be_printed() -> None:
    assert shown_path("a\nb\udce9\0") == "a\\nb\\udce9\\x00" and len(shown_path("x" * 5000)) < 200
    assert shown_path("naïve/目录") == "naïve/目录"
