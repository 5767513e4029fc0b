"""Kinds of input against ways to run: right figures and exit 0, or one clear line; nothing else.

`../shared/cases` beside the checkout, where it is there, holds inputs that once failed; its README says what is right.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Commands, Ended
from tests.faults.sweeps import latest_root, tracked

pytestmark = pytest.mark.faults

QUICK = ["layer=3", "measure.latency_pairs=0", "measure.throughput=false", "bootstrap=200", "device=cpu"]
NO_TRACKING = "tracking.enabled=false"
CASES = Path(__file__).parents[3] / "shared" / "cases"


@dataclass(frozen=True)
class Right:
    """What is right of a command.

    Attributes:
        code: its exit code.
        wording: part of what it writes; of a refusal, what the one line ends in front of which the file is named.
        figures: of the model's run, to four decimals.
        undefined: the baselines that have no figure with these data.
    """

    code: int = 0
    wording: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    undefined: tuple[str, ...] = ()


def refused(wording: str) -> Right:
    return Right(2, wording)


SAME_AS_CSV = Right(figures={"quality/spearman": 0.6211, "quality/pairs": 6, "data/truncated": 1})
CONTROL = Right(figures={"quality/spearman": 0.8660, "quality/pearson": 0.9784, "quality/pairs": 5})
WORDS = Right(figures={"quality/spearman": 0.8660})
RIGHT: dict[str, Right] = {
    "good.csv": CONTROL,
    "chinese.tsv": Right(figures={"quality/spearman": 0.4286}, undefined=("word_vectors",)),
    "chinese.tsv layer=5": Right(figures={"quality/spearman": 0.4286}, undefined=("word_vectors",)),
    "identical_many.tsv": Right(
        1, "failed: all 120 scores are 1: Spearman is undefined", {}, ("word_overlap", "word_vectors")
    ),
    "huge_int_label.jsonl": refused("huge_int_label.jsonl, line 6: label is 1000"),
    "bigint.jsonl": refused("bigint.jsonl, line 5: label is 1000"),
    "digits5000.jsonl": refused("digits5000.jsonl, line 5: label is "),
    "deep.jsonl": refused("deep.jsonl, line 6: nested too deeply to be read"),
    "badutf8.parquet": refused("badutf8.parquet, row 1: sentence1 cannot be read: UnicodeDecodeError"),
    "ts.parquet": Right(figures={"quality/pairs": 3}, undefined=("word_overlap",)),
    "zh.csv": Right(figures={"quality/pairs": 6}, undefined=("word_vectors",)),
    "long_field.csv": SAME_AS_CSV,
    "long_field.tsv": SAME_AS_CSV,
    "long_field.jsonl": SAME_AS_CSV,
    "dup_columns.parquet": refused("dup_columns.parquet: there is more than one column sentence2"),
    "dup2.parquet": refused("dup2.parquet: there is more than one column sentence1"),
    "dupkey.jsonl": refused("dupkey.jsonl, line 1: the object names the key 'label' more than once"),
    "cr_only.csv": CONTROL,
    "neg_under.csv": refused("neg_under.csv, line 2: label is '1_1', valid is a finite number"),
    "labels_tiny.tsv": Right(figures={"quality/pearson": 0.9784}),
    "labels_1e308.tsv": Right(figures={"quality/pearson": 0.9374, "quality/spearman": 0.9}),
    "hub_folder/mrpc": Right(figures={"quality/validation/spearman": 0.8660, "quality/validation/pairs": 5}),
    "test.jsonl.gz": CONTROL,
    "wv/glove_840B_like.txt": Right(0, "1 more vectors of words that have one already", {"quality/spearman": 0.8660}),
    "wv/bom.txt": WORDS,
    "wv/blank_at_end.txt": WORDS,
    "wv/glove.txt.gz": WORDS,
    "wv/glove.6B.zip": WORDS,
    "wv/w2v.bin": WORDS,
    "wv/gensim.kv": refused("gensim.kv is a pickle, such as gensim's .kv, which may run code"),
}


def command_of(case: str) -> list[str]:
    name, *more = case.split()
    path = CASES / name
    if name.startswith("wv/"):
        return [*QUICK, *more, "dataset=pairs", f"dataset.path={CASES / 'good.csv'}", f"word_vectors.path={path}"]
    return [*QUICK, *more, f"dataset={'mrpc' if name.startswith('hub_folder') else 'pairs'}", f"dataset.path={path}"]


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no folder {CASES} beside the checkout")
def test_every_case_of_the_table_is_here() -> None:
    table = (CASES / "README.md").read_text(encoding="utf-8").split("\nCommands that")[0]
    named: list[str] = []
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row.split(" (")[0]):
            whole = named[-1].rpartition(".")[0] + name if name.startswith(".") else name
            named.append(whole)
    assert len(named) > 20 and [name for name in named if name not in RIGHT] == []


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no folder {CASES} beside the checkout")
@pytest.mark.parametrize("case", RIGHT)
def test_cases_that_once_failed(commands: Commands, tmp_path: Path, case: str) -> None:
    ended = commands.run([*command_of(case), NO_TRACKING], tmp_path / "run")
    check(ended, tmp_path / "run", RIGHT[case])


def check(ended: Ended, cwd: Path, right: Right) -> None:
    """The exit code, no traceback, the figures, and who has none."""
    assert ended.code == right.code, ended.output
    assert "Traceback" not in ended.output and right.wording in ended.output
    actual = records_below(cwd)
    if right.code == 2:
        errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and len(errors[0]) < 700 and actual == {}
        assert not (cwd / "outputs").exists() and not (cwd / "mlruns").exists()
        return
    kinds = {name: record for name, record in actual.items() if record["kind"] == "baseline"}
    assert {name for name, record in kinds.items() if record["status"] == "UNDEFINED"} == set(right.undefined)
    assert all(kinds[name]["error"]["kind"] == "Undefined" for name in right.undefined)
    assert all(record["status"] == "FINISHED" for name, record in kinds.items() if name not in right.undefined)
    (model,) = [record for record in actual.values() if record["kind"] == "model"]
    assert model["status"] == ("FINISHED" if right.code == 0 else "FAILED")
    for key, value in right.figures.items():
        assert round(model["metrics"][key], 4) == value, key
    for name, record in kinds.items():
        has_delta = f"baseline/{name}/delta" in model["metrics"]
        assert has_delta == (right.code == 0 and "quality/spearman" in record["metrics"])


def records_below(cwd: Path) -> dict[str, dict[str, Any]]:
    """By name; JSON that holds a NaN is no JSON."""

    def no_such(name: str) -> float:
        raise AssertionError(f"a record holds {name}")

    read = [
        json.loads(path.read_text(), parse_constant=no_such)
        for path in cwd.rglob("result.json")
        if "mlruns" not in path.parts
    ]
    assert all(math.isfinite(value) for record in read for value in record["metrics"].values())
    assert len({record["name"] for record in read}) == len(read)
    return {record["name"]: record for record in read}


# --- kinds of text, made here -------------------------------------------------------------------------------------

# Four pairs each, `first|second`, and the baselines that have no figure with them.
TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Chinese": ("一只猫在睡觉|猫睡着了, 天下雨了|我去银行, 他们说会下雨|他们说会下雪, 狗|鱼", ("word_vectors",)),
    "Japanese": ("猫が寝ている|猫は眠った, 雨が降る|銀行へ行く, 東京タワー|東京の塔, 犬|魚", ("word_vectors",)),
    "Thai": ("แมวนอนหลับ|แมวหลับ, ฝนตก|ไปธนาคาร, ภาษาไทย|คนไทย, งู|ตั", ("word_vectors",)),
    "Chinese and English": (
        "猫睡着了|the cat sleeps, 下雨|a bank, 狗|dogs, 鱼|it",
        ("word_vectors", "word_overlap"),
    ),
    "no common word": ("a cat|the dog, rain fell|we sang, one mat|two roofs, go|it", ("word_overlap",)),
    "marks alone": ("!!|??, ...|;;, --|++, (|[", ("word_overlap",)),
    "emoji": (
        "\U0001f600\U0001f600|\U0001f600, \u2764\ufe0f|\U0001f436, \U0001f431|\U0001f431 !, \U0001f41f|\U0001f40d",
        ("word_vectors",),
    ),
    "German": ("Die Katze schläft|die Katze schläft fest, Es regnet|zur Bank, im Mai|Mai, ab|zu", ()),
}


def pairs_file(folder: Path, text: str, split: str = "all") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{split}.tsv"
    rows = [pair.split("|") for pair in text.split(", ")]
    lines = [f"{first}\t{second}\t{label}" for (first, second), label in zip(rows, (1, 0, 0.5, 0.25), strict=True)]
    path.write_text("\n".join(["sentence1\tsentence2\tlabel", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_kinds_of_text_in_a_single_run(commands: Commands, tmp_path: Path, text: str) -> None:
    rows, undefined = TEXTS[text]
    cwd = tmp_path / "run"
    ended = commands.run([*QUICK, "dataset=pairs", f"dataset.path={pairs_file(tmp_path, rows)}", NO_TRACKING], cwd)
    records = records_below(cwd)
    kinds = {name for name, record in records.items() if record["status"] == "UNDEFINED"}
    # The vectors inside know marks; what words they know of other languages is theirs to say.
    assert kinds - {"word_vectors"} == set(undefined) - {"word_vectors"}
    assert "word_vectors" in kinds or "word_vectors" not in undefined
    check(ended, cwd, Right(undefined=tuple(kinds)))


def test_a_sweep_over_several_languages(commands: Commands, tmp_path: Path) -> None:
    """Undefined baselines beside defined ones; the parent run is FINISHED, and a resume repeats nothing."""
    folders = [pairs_file(tmp_path / name, TEXTS[name][0]).parent for name in ("Chinese", "German", "Thai")]
    paths = ",".join(f"'{folder}'" for folder in folders)
    arguments = ["-m", *QUICK[1:], "layer=1,3", "dataset=pairs", f"dataset.path={paths}", "hydra.sweep.dir=sweep"]
    cwd = tmp_path / "run"
    ended = commands.run(arguments, cwd)
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output
    root = cwd / "sweep"
    read = [json.loads(path.read_text()) for path in sorted(root.glob("**/result.json"))]
    states = [(record["kind"], record["name"].split("-")[0], record["status"]) for record in read]
    assert [state for kind, _, state in states if kind == "model"] == ["FINISHED"] * 6
    assert [state for kind, name, state in states if name == "word_overlap"] == ["FINISHED"] * 3
    assert [state for kind, name, state in states if name == "word_vectors"].count("UNDEFINED") == 2
    check_tracked(cwd, "FINISHED", {"UNDEFINED": 2, "FINISHED": 10})
    with (root / "summary.csv").open(newline="", encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)].count("UNDEFINED") == 2
    for name in ("summary.md", "report.html"):
        assert "no pair has words with a vector in both sentences" in (root / name).read_text(encoding="utf-8"), name
    runs = len(tracked(cwd))
    again = commands.run([*arguments, "resume=true"], cwd)
    assert again.code == 0 and "undefined:" not in again.output.partition("finished before")[0]
    assert again.output.count("finished before, not run again") == 6 and len(tracked(cwd)) == runs


def check_tracked(cwd: Path, parent: str, states: dict[str, int]) -> None:
    """No run of MLflow is left RUNNING; the parent's state; how many children there are of each of our states."""
    runs = tracked(cwd)
    assert [run for run in runs if run.info.status == "RUNNING"] == []
    assert [run.info.status for run in runs if run.data.tags["rwkv_sweep.kind"] == "sweep"] == [parent]
    children = [run.data.tags["rwkv_sweep.status"] for run in runs if run.data.tags["rwkv_sweep.kind"] != "sweep"]
    assert {state: children.count(state) for state in set(children)} == states


@pytest.mark.parametrize("order", [("German", "Chinese"), ("Chinese", "German")])
def test_one_split_without_a_figure_leaves_the_other_its_own(
    commands: Commands, tmp_path: Path, order: tuple[str, str]
) -> None:
    for name in order:
        pairs_file(tmp_path / "data", TEXTS[name][0], name)
    splits = f"dataset.splits=[{','.join(order)}]"
    cwd = tmp_path / "run"
    ended = commands.run([*QUICK, "dataset=pairs", f"dataset.path={tmp_path / 'data'}", splits, NO_TRACKING], cwd)
    check(ended, cwd, Right(undefined=("word_vectors",)))
    baseline = records_below(cwd)["word_vectors"]
    assert "quality/German/spearman" in baseline["metrics"] and "quality/Chinese/spearman" not in baseline["metrics"]
    assert ("quality/spearman" in baseline["metrics"]) == (order[0] == "German")


# --- what panics --------------------------------------------------------------------------------------------------


def tokenizer_file(folder: Path, **parts: object) -> Path:
    """A tokenizer.json over bytes' worth of ids, with parts that make the Rust library panic."""
    content = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
        **parts,
    }
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def panics_when_read(folder: Path) -> Path:
    return tokenizer_file(folder, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})


def panics_when_used(folder: Path) -> Path:
    return tokenizer_file(folder, pre_tokenizer={"type": "FixedLength", "length": 0})


@pytest.mark.parametrize(("tokenizer", "code"), [(panics_when_read, 2), (panics_when_used, 1)])
@pytest.mark.parametrize("multirun", [False, True])
def test_a_tokenizer_that_panics(
    commands: Commands,
    tmp_path: Path,
    tiny_checkpoint: Path,
    few_pairs: Path,
    tokenizer: Callable[[Path], Path],
    code: int,
    multirun: bool,
) -> None:
    """The library's panic is a bare BaseException in Python, and it writes lines of its own, whose backtrace is not
    Python's."""
    model = ["model=local", f"model.path={tiny_checkpoint}", f"model.tokenizer={tokenizer(tmp_path)}"]
    data = ["dataset=pairs", f"dataset.path={few_pairs}", "baselines=[word_overlap]"]
    arguments = [*model, *data, *QUICK[1:], *(["-m", "layer=1,3"] if multirun else ["layer=3"])]
    cwd = tmp_path / "run"
    ended = commands.run(arguments, cwd)
    assert ended.code == code and "Traceback" not in ended.output, ended.output
    if code == 2:
        assert "is not a tokenizer.json that can be read: Precompiled" in ended.output
        assert not (cwd / "mlruns").exists()
        return
    root = latest_root(cwd) if multirun else max(cwd.glob("outputs/*/*"))
    failed = [record for record in records_below(root).values() if record["kind"] == "model"]
    assert len(failed) == 1 + multirun and {record["status"] for record in failed} == {"FAILED"}
    assert {record["error"]["message"] for record in failed} == {"PanicException: chunk size must be non-zero"}
    assert [run for run in tracked(cwd) if run.info.status == "RUNNING"] == []
