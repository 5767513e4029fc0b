"""The store is a cache: entries of others are used, nothing that is wrong with it is more than a line and a tag."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.embedding import cache as store_module
from rwkv_sweep.embedding import cached_encoder
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.utils.console import log_line_once
from rwkv_sweep.utils.shared_files import follow_folder, shared_lock
from tests.other_user import as_other_user, reachable_folder
from tests.search_path import search_path
from tests.small_models import FP32, encoder_of, random_config

KEY, OTHER = "0" * 31 + "1", "0" * 31 + "2"
ARRAY = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


@pytest.fixture(autouse=True)
def nothing_said_before() -> Iterator[None]:
    log_line_once.cache_clear()
    store_module._trouble.cache_clear()
    yield
    store_module._trouble.cache_clear()


def test_an_entry_is_kept_and_read(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "deep" / "store", 1.0)
    assert store.get(KEY) is None
    with store.lock(KEY):
        assert store.put(KEY, ARRAY, {"pooling": "mean"})
    assert np.array_equal(EmbeddingStore(tmp_path / "deep" / "store", 1.0).get(KEY), ARRAY)
    assert store.failure is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, 1.0)
    store.put(KEY, ARRAY, {})
    store.put(OTHER, ARRAY, {})
    os.utime(tmp_path / f"{KEY}.json", (1, 1))
    os.utime(tmp_path / f"{OTHER}.json", (2, 2))
    assert store.get(KEY) is not None  # used again
    assert store.prune(ARRAY.nbytes + 200) == (tmp_path / f"{KEY}.npy").stat().st_size
    assert [entry.key for entry in store.entries()] == [KEY]


# What else lies there.

FOREIGN: dict[str, str] = {
    "a list": "[]",
    "a list with what looks like an entry": '[{"about": {}}]',
    "nothing": "",
    "no JSON": "{",
    "deep": "[" * 200_000,
    "a number": "1",
    "an entry of another shape": '{"about": 3}',
    "an object": '{"about": {}}',
}


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize("name", ["list.json", "notes.json", f"{OTHER}.json", f"{OTHER.upper()}x.json"])
def test_other_files_in_the_folder_are_left_alone(tmp_path: Path, name: str, content: str) -> None:
    store = EmbeddingStore(tmp_path, 0.0)
    (tmp_path / name).write_text(FOREIGN[content])
    (tmp_path / "list.npy").write_bytes(b"mine")
    assert store.put(KEY, ARRAY, {})
    assert store.prune(0) > 0
    assert (tmp_path / name).read_text() == FOREIGN[content]
    assert (tmp_path / "list.npy").read_bytes() == b"mine"


@pytest.mark.parametrize("content", FOREIGN)
def test_a_record_of_another_shape_is_a_damaged_entry(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = EmbeddingStore(tmp_path, 1.0)
    store.put(KEY, ARRAY, {})
    (tmp_path / f"{KEY}.json").write_text(FOREIGN[content])
    assert EmbeddingStore(tmp_path, 1.0).get(KEY) is None
    assert "are damaged" in capsys.readouterr().err
    assert store.put(KEY, ARRAY, {}) and np.array_equal(store.get(KEY), ARRAY)


# Where it cannot be written or read.


def a_file(path: Path) -> Path:
    path.touch()
    return path


def below_a_file(path: Path) -> Path:
    return a_file(path) / "store"


def a_long_name(path: Path) -> Path:
    return path / ("n" * 300)


def a_loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


@pytest.mark.parametrize("make", [a_file, below_a_file, a_long_name, a_loop])
def test_a_place_that_cannot_be_a_store_costs_a_line(
    tmp_path: Path, make: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "place")
    for _ in range(2):
        store = EmbeddingStore(path, 1.0)
        with store.lock(KEY):
            assert store.get(KEY) is None
            assert not store.can_be_written() and not store.put(KEY, ARRAY, {})
    assert store.failure and store.failure.startswith(("it cannot be written: ", "it cannot be read: "))
    said = capsys.readouterr().err
    assert said.count("cannot be written") + said.count("cannot be read") in (1, 2)


UNPRIVILEGED = """
import json, os, resource, sys
import numpy as np
from pathlib import Path
from rwkv_sweep.embedding.cache import EmbeddingStore

key, other = sys.argv[2:4]
if sys.argv[4] != "-":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
store = EmbeddingStore(Path(sys.argv[1]), 1.0)
with store.lock(key):
    found = store.get(key)
with store.lock(other):
    missing = store.get(other)
    kept = store.put(other, np.ones((1, 3, 4000), np.float32), {})
print(json.dumps([found is not None, missing is None, kept, store.failure]))
"""


def as_another_user(folder: Path, repo_root: Path, groups: str = "", limit: str = "-") -> tuple[list[Any], str]:
    """What a process of user 12345 finds, which may read all and write what its user may."""
    environment = {**os.environ, "PYTHONPATH": search_path(repo_root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*as_other_user(groups), sys.executable, "-c", UNPRIVILEGED, str(folder), KEY, OTHER, limit],
        env=environment,
        capture_output=True,
        text=True,
        umask=0o022,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def shared() -> Iterator[Path]:
    """A store with one entry."""
    with reachable_folder() as above:
        folder = above / "store"
        folder.mkdir(mode=0o755)
        store = EmbeddingStore(folder, 1.0)
        with store.lock(KEY):
            store.put(KEY, ARRAY, {})
        yield folder


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, stat.S_IMODE(path.stat().st_mode))
        for path in folder.iterdir()
    }


def test_another_users_store_is_read_and_left_alone(shared: Path, repo_root: Path) -> None:
    before = state(shared)
    (actual, missing, kept, failure), said = as_another_user(shared, repo_root)
    assert (actual, missing, kept, failure) == (True, True, False, "it cannot be written: Permission denied")
    assert said.count("\n") == 1 and said.startswith(f"store.path={shared} cannot be written (Permission denied)")
    assert state(shared) == before


def test_a_folder_for_everyone_with_locks_of_one_user(shared: Path, repo_root: Path) -> None:
    """Entries and locks as older versions made them."""
    shared.chmod(0o777)
    before = state(shared)
    (actual, missing, kept, failure), said = as_another_user(shared, repo_root)
    assert (actual, missing, kept, failure) == (True, True, True, None)
    assert said.count("\n") == 1 and "entries are used without locks (Permission denied)" in said
    assert {name: content for name, content in state(shared).items() if name in before} == before


def test_entries_of_a_groups_folder_are_the_groups(shared: Path, repo_root: Path) -> None:
    as_other_user()
    os.chown(shared, -1, 4321)
    shared.chmod(0o2775)
    store = EmbeddingStore(shared, 1.0)
    with store.lock(KEY):
        assert store.put(KEY, ARRAY, {})
    with store.lock(OTHER):
        pass
    for name in (f"{KEY}.npy", f"{KEY}.json", f"{OTHER}.lock"):
        actual = (shared / name).stat()
        assert (actual.st_gid, stat.S_IMODE(actual.st_mode)) == (4321, 0o664), name
    (shared / f"{KEY}.lock").unlink()
    (actual_dict, missing, kept, failure), said = as_another_user(shared, repo_root, groups="4321")
    assert (actual_dict, missing, kept, failure, said) == (True, True, True, None, "")
    assert stat.S_IMODE((shared / f"{OTHER}.npy").stat().st_mode) == 0o664


@pytest.mark.parametrize("umask", [0o077, 0o027])
@pytest.mark.parametrize(("folder", "expected"), [(0o775, 0o664), (0o777, 0o666), (0o1777, 0o644)])
def test_all_files_of_an_entry_follow_a_shared_folder(tmp_path: Path, umask: int, folder: int, expected: int) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(folder)
    before = os.umask(umask)
    try:
        store = EmbeddingStore(tmp_path / "store", 1.0)
        with store.lock(KEY):
            assert store.put(KEY, ARRAY, {})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").iterdir()}
    assert modes == dict.fromkeys((f"{KEY}.npy", f"{KEY}.json", f"{KEY}.lock"), expected)


def test_a_limit_on_the_size_of_files_costs_a_line(shared: Path, repo_root: Path) -> None:
    shared.chmod(0o777)
    (actual, missing, kept, failure), said = as_another_user(shared, repo_root, limit="20000")
    assert (actual, missing, kept) == (True, True, False)
    assert "files may not grow so large" in failure and failure.partition(": ")[2] in said
    assert not [path for path in shared.iterdir() if path.name.startswith((".", OTHER)) and path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("folder", "expected"), [(0o755, 0o644), (0o700, 0o600), (0o775, 0o664), (0o777, 0o666), (0o1777, 0o644)]
)
def test_a_file_follows_its_folder(tmp_path: Path, folder: int, expected: int) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f").chmod(folder)
    for name in ("file", "lock"):
        path = tmp_path / "f" / name
        before = os.umask(0o077)
        try:
            if name == "lock":
                with shared_lock(path):
                    pass
            else:
                path.touch()
                follow_folder(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == expected


# The command.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "prune needs --max-gib, how much may stay: --max-gib 0 removes all"),
        (["prune", "--max-gib", "nan"], "nan is not a size: valid is a number of GiB, 0 or more"),
        (["prune", "--max-gib", "-1"], "-1 is not a size"),
        (["prune", "--max-gib", "inf"], "inf is not a size"),
        (["prune", "--max-gib", "much"], "much is not a size"),
        (["list", "--path", "nowhere"], "--path=nowhere is not a folder"),
    ],
)
def test_the_command_refuses_bad_input(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    EmbeddingStore(tmp_path, 1.0).put(KEY, ARRAY, {})
    path = [] if "--path" in arguments else ["--path", str(tmp_path)]
    try:
        code = run_verb("cache", [*arguments, *path])
    except SystemExit as end:
        code = int(end.code or 0)
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1
    assert EmbeddingStore(tmp_path, 1.0).get(KEY) is not None


def test_the_command_lists_and_prunes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    EmbeddingStore(tmp_path, 1.0).put(KEY, ARRAY, {"pooling": "mean"})
    run_verb("cache", ["list", "--path", str(tmp_path)])
    assert f"{KEY}        0.0 MiB  pooling=mean\n1 entries" in capsys.readouterr().out
    run_verb("cache", ["prune", "--max-gib", "0", "--path", str(tmp_path)])
    assert EmbeddingStore(tmp_path, 1.0).entries() == []


# Who asks for vectors.


def sources(tmp_path: Path, store: EmbeddingStore | None) -> VectorSource:
    model = random_config(hidden_size=16, num_blocks=3, intermediate_size=32)
    return VectorSource(encoder_of(model, batch_tokens=64), FP32, ["mean", "last"], store)


def full(*_: Any, **__: Any) -> str:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("trouble", ["none", "no folder", "full disk", "cannot be read"])
def test_vectors_are_the_same_whatever_is_wrong_with_the_store(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = ["a b", "c d e", "f"]
    expected = sources(tmp_path, None).of(sentences, "mean", [1, 3])
    store = EmbeddingStore(a_file(tmp_path / "store") if trouble == "no folder" else tmp_path / "store", 1.0)
    if trouble == "full disk":
        monkeypatch.setattr(EmbeddingStore, "_write", full)
    if trouble == "cannot be read":
        monkeypatch.setattr(store_module, "file_sha256", full)
    source = sources(tmp_path, store)
    for forwards in (1, 2):
        assert torch.equal(source.of(sentences, "mean", [1, 3]), expected)
        assert source.forwards == (1 if trouble == "none" else forwards)
    assert (store.failure is None) == (trouble == "none")


def test_inner_vectors_have_entries_of_their_own(tmp_path: Path) -> None:
    poolings = ["mean", "values:mean", "time_mix:mean", "values:last"]
    source = VectorSource(encoder_of(random_config()), FP32, poolings, EmbeddingStore(tmp_path, 1.0))
    texts = ["A cat sleeps.", "No."]
    read = {pooling: source.of(texts, pooling, [0, 2]) for pooling in poolings}
    assert source.forwards == 3, "one for the outputs, one for each source inside; values:last comes with values:mean"
    encoder = encoder_of(random_config())
    for pooling, vectors_LSD in read.items():
        torch.testing.assert_close(vectors_LSD, encoder.encode(texts, [0, 2], [pooling])[pooling])
    assert not torch.allclose(read["values:mean"], read["time_mix:mean"])
    again = VectorSource(encoder, FP32, poolings, EmbeddingStore(tmp_path, 1.0))
    for pooling, vectors_LSD in read.items():
        assert torch.equal(again.of(texts, pooling, [0, 2]), vectors_LSD)
    assert again.forwards == 0
    assert again.all_layers("values:mean") == [0, 1, 2]


def test_no_more_is_computed_than_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[int], list[str]]] = []
    source = sources(tmp_path, EmbeddingStore(a_file(tmp_path / "store"), 1.0))
    encode = source._encoder.encode

    def watched(sentences: Any, layers: Any, poolings: Any, advance: Any) -> Any:
        asked.append((list(layers), list(poolings)))
        return encode(sentences, layers, poolings, advance)

    monkeypatch.setattr(type(source._encoder), "encode", lambda self, *arguments: watched(*arguments))
    source.of(["a b"], "mean", [1])
    assert asked == [([1], ["mean"])]


def test_vectors_too_large_to_keep_are_computed_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """4 bytes x width x sentences x layers, beside the limit on either side."""
    source = VectorSource(encoder_of(random_config()), FP32, ["mean"], EmbeddingStore(tmp_path, 1.0))
    texts = ["A cat sleeps.", "No."]
    config = source._encoder.loaded.model.config
    size = 4 * config.hidden_size * len(texts) * (config.num_hidden_layers + 2)
    for limit, forwards in ((size - 1, 2), (size, 1)):
        monkeypatch.setattr(cached_encoder, "LARGEST_ENTRY_GIB", limit / 2**30)
        source.forwards = 0
        for _ in range(2):
            source.of(texts, "mean", [1])
        assert source.forwards == forwards
        line = "pooling=mean of all layers of 2 sentences is too large for the store: not kept\n"
        assert (line in capsys.readouterr().err) is (forwards == 2)
