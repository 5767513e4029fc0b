"""Texts of a file to vectors in a file: every format, what is refused, and a kill in the middle."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from safetensors import safe_open
from safetensors.numpy import load_file

from rwkv_sweep import Encoder
from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.errors import BAD_INPUT, UserError
from rwkv_sweep.export import encoding
from rwkv_sweep.export.encoding import Wanted, encode_file
from rwkv_sweep.export.texts import TextFile
from tests.small_runs import finish_run, small_checkpoint, small_config, small_pairs

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [f"{'Rain fell, ' * (number % 5)}she said, number {number}." for number in range(23)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    config = small_config(small_checkpoint(root / "small"), small_pairs(root / "data"), "layer=1", "postprocess=whiten")
    finish_run(config, root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def encoder(run: Path) -> Encoder:
    return Encoder.from_run(run)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ROWS", 5)
    monkeypatch.setattr(encoding, "LEAST_ROWS", 5)


def write_texts(path: Path, column: str = "text") -> Path:
    """The texts in the format that the name says; tables have another column beside."""
    rows = [{"number": number, column: text} for number, text in enumerate(TEXTS)]
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if kind == "txt":
        content = "\n".join(TEXTS) + "\n"
    elif kind == "jsonl":
        content = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind == "json":
        content = json.dumps(rows)
    else:
        lines = [["number", column], *([row["number"], row[column]] for row in rows)]
        with path.with_suffix(".made").open("w", newline="") as file:
            csv.writer(file, delimiter="\t" if kind == "tsv" else ",").writerows(lines)
        content = path.with_suffix(".made").read_text()
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize(
    "name", ["a.txt", "a.txt.gz", "a.csv", "a.tsv", "a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"]
)
def test_every_input(name: str, tmp_path: Path) -> None:
    column = None if "txt" in name else "sentence"
    source = TextFile(write_texts(tmp_path / name, "sentence"), column)
    assert source.scan(empty=False).count == len(TEXTS)
    parts = list(source.parts(5))
    assert [text for part in parts for text in part] == TEXTS and [len(part) for part in parts] == [5, 5, 5, 5, 3]
    assert source.scan(empty=False) == TextFile(write_texts(tmp_path / "b.txt"), None).scan(empty=True)


def test_the_column_need_not_be_named_where_it_is_clear(tmp_path: Path) -> None:
    assert list(TextFile(write_texts(tmp_path / "a.csv"), None).parts(99)) == [TEXTS]
    (tmp_path / "one.csv").write_text("anything\nA cat.\n")
    assert list(TextFile(tmp_path / "one.csv", None).parts(99)) == [["A cat."]]


def vectors_in(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".safetensors":
        return np.asarray(load_file(path)["vectors"])
    table = pq.read_table(path)
    assert table["row"].to_pylist() == list(range(len(TEXTS)))
    return np.stack(table["embedding"].to_numpy())


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".safetensors"])
@pytest.mark.parametrize("output", ["float32", "float16", "int8", "binary"])
def test_every_output(encoder: Encoder, ending: str, output: str, tmp_path: Path) -> None:
    source = TextFile(write_texts(tmp_path / "a.txt"), None)
    target = tmp_path / f"vectors{ending}"
    encoded = encode_file(encoder, "", source, target, Wanted(output=output))
    assert (encoded.texts, encoded.before) == (len(TEXTS), 0)
    expected_SD, actual_SD = encoder.encode(TEXTS), vectors_in(target)
    if output == "float32":
        np.testing.assert_allclose(actual_SD, expected_SD, atol=1e-5)
    elif output == "float16":
        assert actual_SD.dtype == np.float16
        np.testing.assert_allclose(actual_SD, expected_SD, rtol=2e-3, atol=1e-3)
    elif output == "binary":
        np.testing.assert_array_equal(actual_SD, encoder.encode(TEXTS, precision="binary"))
    else:
        low, high = limits_in(target)
        np.testing.assert_allclose([low, high], [expected_SD[:5].min(0), expected_SD[:5].max(0)], atol=1e-5)
        back_SD = (actual_SD + 128.5) * (high - low) / 255 + low
        np.testing.assert_allclose(back_SD, np.clip(expected_SD, low, high), atol=float((high - low).max()) / 200)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def limits_in(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.asarray(np.load(path.with_suffix(".ranges.npy")))
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            return np.array(json.loads(file.metadata()["ranges"]))
    return np.array(json.loads(pq.read_schema(path).metadata[b"ranges"]))


def encode_until_killed(encoder: Encoder, source: TextFile, target: Path, parts: int) -> None:
    """In a process of its own, which SIGKILL ends as it writes one part more."""
    child = os.fork()
    if child == 0:
        written = encoding._Parts.put

        def put(self: Any, number: int, array: np.ndarray) -> None:
            if number == parts:
                (self._folder / ".000000.npy.00000000.unfinished").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            written(self, number, array)

        encoding._Parts.put = put  # type: ignore[method-assign]
        try:
            encode_file(encoder, "", source, target, Wanted())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_what_was_killed_goes_on_where_it_was(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TextFile(write_texts(tmp_path / "a.txt"), None)
    encode_file(encoder, "", source, whole := tmp_path / "whole.npy", Wanted())
    target = tmp_path / "vectors.npy"
    encode_until_killed(encoder, source, target, parts=3)
    assert not target.exists() and len(list((tmp_path / ".vectors.npy.parts").glob("[0-9]*.npy"))) == 3
    asked: list[str] = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts, **others: asked.extend(texts) or encode(texts, **others))
    encoded = encode_file(encoder, "", source, target, Wanted())
    assert (encoded.texts, encoded.before) == (23, 15) and asked == TEXTS[15:]
    assert target.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".vectors.npy.parts").exists()


@pytest.mark.parametrize("change", ["texts", "encoder", "wanted"])
def test_parts_of_something_else_are_not_used(
    encoder: Encoder, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = TextFile(write_texts(tmp_path / "a.txt"), None)
    target = tmp_path / "vectors.npy"
    encode_until_killed(encoder, source, target, parts=2)
    if change == "texts":
        (tmp_path / "a.txt").write_text("\n".join(["Another.", *TEXTS[1:]]) + "\n")
    wanted = Wanted(normalize=True) if change == "wanted" else Wanted()
    encoded = encode_file(encoder, "another" if change == "encoder" else "", source, target, wanted)
    assert encoded.before == 0 and "holds parts of other texts, or of another encoder" in capsys.readouterr().err
    expected_SD = encoder.encode(
        ["Another.", *TEXTS[1:]] if change == "texts" else TEXTS, normalize_embeddings=wanted.normalize
    )
    np.testing.assert_allclose(np.load(target), expected_SD, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.pdf", "x", None, r"TEXTS=.*a\.pdf is of an unknown format: valid is a file of texts: \.txt"),
        ("a.txt", "", None, r"a\.txt holds no text"),
        ("a.txt", "A cat.\n\nRain.\n", None, r"a\.txt, line 2: the text is empty: valid is a text, or --on-empty zero"),
        ("a.txt", "A cat.\n", "text", r"--column=text with .*a text file has no columns"),
        ("a.csv", "a,b\n1,2\n", None, r"--column=text: .*a\.csv has no such column, there are a, b"),
        ("a.csv", "a,b\n1,2\n", "c", r"--column=c: .*a\.csv has no such column, there are a, b"),
        ("a.csv", 'text,b\nx,2\n"",3\n', None, r"a\.csv, line 3: the text is empty"),
        ("a.csv", "text,b\nx,2\nx\n", None, r"a\.csv, line 3: 1 fields, but the header has 2"),
        ("a.jsonl", '{"text": "a"}\n{"text": 5}\n', None, r"a\.jsonl, line 2: text is 5, not a text"),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', None, r"a\.jsonl, line 2: text is None, not a text"),
        ("a.jsonl", '{"text": "a"}\n{"txt": "a"}\n', None, r"a\.jsonl, line 2: there is no text, but txt"),
        ("a.jsonl", '{"text": "\\ud800"}\n', None, r"a\.jsonl, line 1: .* is not valid Unicode"),
        ("a.jsonl", '{"text": "a"}\n[\n', None, r"a\.jsonl, line 2: not valid JSON"),
        ("a.parquet", "x", None, r"a\.parquet is not a readable Parquet file"),
    ],
)
def test_texts_that_are_refused(name: str, content: str, column: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        TextFile(tmp_path / name, column).scan(empty=False)
    assert "\n" not in str(refused.value)


def test_the_command(run: Path, encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, out = write_texts(tmp_path / "a.csv"), tmp_path / "v.npy"
    assert run_verb("encode", [str(texts), "--run", str(run), "--out", str(out), "--normalize"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("23 texts, ") and printed[-1] == str(out)
    np.testing.assert_allclose(np.load(out), encoder.encode(TEXTS, normalize_embeddings=True), atol=1e-5)
    (tmp_path / "empty.txt").write_text("A cat.\n\nRain.\n")
    zero = ["--on-empty", "zero", "--out", str(tmp_path / "z.npy")]
    assert run_verb("encode", [str(tmp_path / "empty.txt"), "--run", str(run), *zero]) == 0
    assert np.load(tmp_path / "z.npy").any(1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--out", "v.bin"],
            "--out=v.bin is of an unknown format: valid are names that end in .npy, .parquet",
        ),
        (["--out", "there.npy"], "--out=there.npy is there already: valid is a file to be made"),
        (["--out", "nowhere/v.npy", "--layer", "99"], "layer=99"),
        (["--out", "v.npy", "--layer", "2"], "its post-processing was fitted for layer=1 alone"),
        (["--out", "v.npy", "--layer", "[1"], "--layer=[1 is not known"),
        (["--out", "v.npy", "--truncate-dim", "0"], "truncate_dim=0 is not valid"),
        (["--out", "v.npy", "--column", "other"], "--column=other: "),
        (["--out", "v.npy", "--run", "nowhere"], "run=nowhere does not exist"),
    ],
)
def test_what_the_command_refuses(
    run: Path,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = write_texts(tmp_path / "a.csv")
    (tmp_path / "there.npy").write_text("mine")
    assert run_verb("encode", [str(texts), "--run", str(run), *arguments]) == BAD_INPUT
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not list(tmp_path.rglob("*v.npy*")) and (tmp_path / "there.npy").read_text() == "mine"


def shards_in(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        (folder / f"part-{number}.txt").write_text("\n".join(TEXTS[number * 7 : number * 7 + 7]) + "\n")
    (folder / "README").write_text("no texts")
    (folder / ".hidden.txt").write_text("x")
    return folder


def test_a_folder_of_texts(run: Path, encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, out = shards_in(tmp_path / "texts"), tmp_path / "vectors"
    arguments = [str(texts), "--run", str(run), "--out", str(out)]
    (texts / "part-1.txt").write_text("A cat.\n\n")
    assert run_verb("encode", arguments) == BAD_INPUT
    output = capsys.readouterr()
    assert output.out.startswith("2 files encoded (14 texts), 0 there before, 1 failed")
    assert "part-1.txt, line 2: the text is empty" in output.err
    before = (out / "part-0.parquet").stat()
    (texts / "part-1.txt").write_text("A cat.\n")
    with FileLock(prepared_lock(out / "part-1.parquet")):
        assert run_verb("encode", arguments) == 0
        busy = "0 files encoded (0 texts), 2 there before, 1 being written by others"
        assert capsys.readouterr().out.startswith(busy)
    assert run_verb("encode", arguments) == 0
    assert capsys.readouterr().out.startswith("1 files encoded (1 texts), 2 there before\n")
    assert (out / "part-0.parquet").stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(path.name for path in out.iterdir()) == [f"part-{number}.parquet" for number in range(3)]
    table = pq.read_table(out / "part-2.parquet")
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), encoder.encode(TEXTS[14:21]), atol=1e-5)


def prepared_lock(target: Path) -> Path:
    """The lock that a process at work on `target` holds."""
    folder = target.with_name(f".{target.name}.parts")
    folder.mkdir()
    return folder / "lock"


def test_folders_that_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = shards_in(tmp_path / "texts")
    (texts / "part-0.csv").write_text("text\nA cat.\n")
    (tmp_path / "empty").mkdir()
    out = ["--run", str(run), "--out", str(tmp_path / "vectors")]
    for arguments, message in (
        ([str(texts), *out], "holds two files whose vectors would be in part-0.parquet"),
        ([str(texts), *out, "--output", "int8"], "--output=int8 with a folder: each file's ranges"),
        ([str(tmp_path / "empty"), *out], "holds no file of texts"),
        ([str(texts), "--run", str(run), "--out", str(texts / "README")], "README is a file: valid"),
    ):
        assert run_verb("encode", arguments) == BAD_INPUT
        assert message in capsys.readouterr().err and not (tmp_path / "vectors").exists()
