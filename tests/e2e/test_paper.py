"""The study's presets and other networks, from the command line to the report."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ["device=cpu", "device.threads=1", "bootstrap=50", "measure.latency_pairs=3", "tracking.enabled=false"]


@pytest.fixture(scope="module")
def mrpc(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like MRPC's, with pairs of our own."""
    folder = tmp_path_factory.mktemp("mrpc")
    for split in ("train", "validation"):
        (folder / f"{split}.tsv").write_text(pairs_file.read_text())
    return folder


def results(cwd: Path) -> dict[str, Any]:
    actual = [json.loads(path.read_text()) for path in cwd.glob("multirun/*/*/**/result.json")]
    return {entry["name"]: entry for entry in actual}


def report(cwd: Path, name: str) -> str:
    (path,) = cwd.glob(f"multirun/*/*/report/{name}")
    return path.read_text()


@pytest.fixture(scope="module")
def study(command: Command, mrpc: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both presets on the embedded model."""
    actual = {}
    for preset in ("paper", "paper_as_published"):
        actual[preset] = tmp_path_factory.mktemp(preset)
        arguments = [f"+experiment={preset}", "model=tiny", f"dataset.path={mrpc}", "layer=1,11", *QUICK]
        done = command(arguments, actual[preset])
        assert done.returncode == 0, done.stderr
    return actual


@pytest.mark.parametrize("preset", ["paper", "paper_as_published"])
def test_without_weights_one_line_says_which_files_to_put_where(
    started: Command, mrpc: Path, tmp_path: Path, preset: str
) -> None:
    done = started(  # where the hub's cache lies is read on import
        [f"+experiment={preset}", f"dataset.path={mrpc}"], tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: model.id=RWKV/v6-Finch-1B6-HF at revision ")
    assert "copy its config.json and pytorch_model.bin" in line and "model=local model.path=<that folder>" in line
    assert not list(tmp_path.glob("multirun/**/result.json"))


def test_done_right(study: dict[str, Path]) -> None:
    runs = results(study["paper"])
    shallow, deep = runs["layer=1"], runs["layer=11"]
    assert (shallow["params"]["depth"], deep["params"]["depth"]) == (2, 12)
    assert shallow["params"]["max_tokens"] == 128 and shallow["params"]["batch_tokens"] == 1
    assert "not the model's" not in shallow["tags"]["tokenizer"] and "full_depth" not in shallow["tags"]
    assert {"quality/train_first_1000/spearman", "quality/validation/spearman"} <= shallow["metrics"].keys()


def test_as_published(study: dict[str, Path]) -> None:
    runs, right = results(study["paper_as_published"]), results(study["paper"])
    for name in ("layer=1", "layer=11"):
        assert runs[name]["params"]["depth"] == 12, "every layer pays the whole forward"
        assert runs[name]["tags"]["tokenizer"] == "world (not the model's, folded into 1024 rows)"
        assert runs[name]["tags"]["full_depth"] and "after each 6 blocks" in runs[name]["tags"]["rescale_every"]
        assert runs[name]["metrics"]["quality/spearman"] != right[name]["metrics"]["quality/spearman"]
        assert runs[name]["key"] != right[name]["key"]


@pytest.mark.parametrize("preset", ["paper", "paper_as_published"])
def test_the_table_has_every_row_with_what_the_records_say(study: dict[str, Path], preset: str) -> None:
    runs = results(study[preset])
    table = list(csv.DictReader(report(study[preset], "table.csv").splitlines()))
    rows = {(row["row"], row["figure"]): row for row in table}
    layer = rows["layer 11", "spearman validation"]
    assert float(layer["measured"]) == runs["layer=11"]["metrics"]["quality/validation/spearman"]
    assert float(layer["published"]) == 0.3073
    seconds = float(rows["layer 1", "seconds per pair"]["measured"])
    assert seconds == pytest.approx(runs["layer=1"]["metrics"]["latency/mean_ms"] / 1000)
    assert rows["layer 3", "spearman validation"]["measured"] == ""
    text = report(study[preset], "report.md")
    wrong = "| tokenizer | GPT-2's, which is not the model's | world (not the model's, folded into 1024 rows) |"
    assert (wrong in text) == (preset == "paper_as_published")
    assert "Not every run names RWKV/v6-Finch-1B6-HF" in text


def test_glove_is_the_studys_to_four_decimals(command: Command, shared_data: Path, tmp_path: Path) -> None:
    """On the study's data, with its word vectors; for a baseline's row any small network will do."""
    small = {"num_blocks": 2, "hidden_size": 32, "head_size": 16, "intermediate_size": 64, "vocab_size": 256}
    model = ["model=random", "model.tokenizer=bytes", *(f"model.{key}={value}" for key, value in small.items())]
    data = [f"dataset.path={shared_data / 'mrpc'}"]
    data.append(f"word_vectors.path={shared_data / 'glove' / 'glove.6B.50d.subset.txt'}")
    done = command(["+experiment=paper", *model, *data, "layer=0", *QUICK], tmp_path)
    assert done.returncode == 0, done.stderr
    text = report(tmp_path, "report.md")
    assert "GloVe: 0.3876 published and 0.3876 measured on train[:1000], the same to four decimals." in text
    assert "GloVe: 0.4326 published and 0.4326 measured on validation, the same to four decimals." in text


def bert(folder: Path, words: Sequence[str]) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=words[0]).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_another_network_is_a_row_like_any_other(command: Command, pairs_file: Path, tmp_path: Path) -> None:
    words = ["[UNK]", *sorted(set(pairs_file.read_text().replace("\t", " ").replace(".", " ").split()))]
    folder = bert(tmp_path / "bert", words)
    data = ["dataset=pairs", f"dataset.path={pairs_file}"]
    swept = ["-m", "model=hf", f"model.path={folder}", "layer=0,final", "precision=fp32,bf16,int8", *data, *QUICK]
    done = command(
        [*swept, "max_tokens=128", "measure.parity=true", "measure.overhead=true", "measure.overhead_pairs=3"],
        tmp_path / "cwd",
    )
    assert done.returncode == 0, done.stderr
    models = [run for run in results(tmp_path / "cwd").values() if run["kind"] == "model"]
    runs = {(str(run["params"]["layer"]), run["params"]["precision"]): run for run in models}
    first, final = runs["0", "fp32"], runs["final", "fp32"]
    assert (first["params"]["depth"], final["params"]["depth"]) == (1, 2)
    for run in (first, final):
        assert run["tags"]["blocks"].endswith("BertModel") and run["tags"]["batching"] == "padded and masked"
        assert {"quality/spearman", "latency/mean_ms", "throughput/tokens_per_s", "overhead/latency_ratio"} <= run[
            "metrics"
        ].keys()
    rounded = runs["0", "bf16"]["metrics"]
    assert 0.9 < rounded["parity/cosine_mean"] < 1
    unfit = runs["0", "int8"]
    assert unfit["status"] == "UNSUPPORTED" and "valid are fp32, bf16 and fp16" in unfit["error"]["message"]


def test_graded_labels_have_correlations_and_nothing_that_needs_classes(command: Command, tmp_path: Path) -> None:
    """STS-B and SICK as files, under the columns' own names."""
    sentences = ["A man plays a guitar.", "A cat sleeps.", "Rain falls in the north.", "Prices went up in May."]
    rows = [(a, b, 5 - abs(i - j)) for i, a in enumerate(sentences) for j, b in enumerate(sentences)]
    for name, header in (
        ("stsb", "sentence1\tsentence2\tscore"),
        ("sick", "sentence_A\tsentence_B\trelatedness_score"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "test.tsv").write_text("\n".join([header, *(f"{a}\t{b}\t{score}" for a, b, score in rows)]) + "\n")
        columns = [
            f"dataset.{key}={column}"
            for key, column in zip(("sentence1", "sentence2", "label"), header.split("\t"), strict=True)
        ]
        arguments = ["-m", f"dataset={name}", f"dataset.path={folder}", *columns, "layer=3", *QUICK]
        done = command(arguments, tmp_path / f"cwd_{name}")
        assert done.returncode == 0, done.stderr
        for run in results(tmp_path / f"cwd_{name}").values():
            own = {key for key in run["metrics"] if key.startswith("quality/test/")}
            assert own == {
                f"quality/test/{key}" for key in ("spearman", "spearman_lo", "spearman_hi", "pearson", "pairs")
            }
