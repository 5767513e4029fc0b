"""Bad input is one line that names key, value and what would be valid, before anything is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rwkv_sweep import __version__
from tests.e2e.finished import Command, without
from tests.search_path import LIMIT_S

IN_TURN = """
import contextlib, io, json, os, sys
from rwkv_sweep.cli.sweep import main

endings = []
for arguments, cwd in json.load(sys.stdin):
    os.makedirs(cwd)
    os.chdir(cwd)
    os.environ.pop("HYDRA_FULL_ERROR", None)
    sys.argv = ["rwkv_sweep", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    endings.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(endings))
"""
"""One process for many commands: they fail in less time than their imports take."""

LAYERS_OF_12 = (
    "valid are 0 to 11 (blocks), final (or 12 or -1), embedding, all, firstN, lastN, or a list of these such as [1,3,5]"
)
# Arguments behind those of `job`, and what is reported; {bad} is the folder of `bad_files`.
CHECKING = re.compile(r"\A\d+ runs?: checking model, data and device\n\Z")
"""What may have been said before, on stdout."""

BAD_INPUT: dict[str, tuple[list[str], str]] = {
    "layer": (["layer=99"], f"layer=99 is not a layer of this model: {LAYERS_OF_12}"),
    "layer in a sweep": (["-m", "layer=1,99,3"], f"layer=99 is not a layer of this model: {LAYERS_OF_12}"),
    "precision": (["precision=int9"], "precision=int9 is not known: valid are bf16, fp16, fp32, "),
    "precision in a sweep": (
        ["-m", "precision=fp16,int9"],
        "precision=int9 is not known: valid are bf16, fp16, fp32, ",
    ),
    "number for a group": (["precision=8"], "precision=8 is not valid: valid are bf16, fp16, fp32, "),
    "numbers for a group in a sweep": (
        ["-m", "precision=8,16"],
        "precision=8 is not valid: valid are bf16, fp16, fp32, ",
    ),
    "pooling": (["pooling=men"], "pooling=men is not known: valid are "),
    "pooling value": (["pooling.name=men"], "pooling.name=men is not known: valid are mean, "),
    "key": (["layers=1"], "layers is not a key: did you mean layer? valid are aggregation, "),
    "key in a group": (["model.colour=x"], "model.colour is not a key: valid are eos_chunk, "),
    "type": (["bootstrap=many"], "bootstrap=many is not valid: it takes a value of type Integer"),
    "list without aggregation": (
        ["layer=[1,3]"],
        "aggregation=none takes one layer, but layer names 2: choose aggregation=mean, ",
    ),
    "dataset": (
        ["dataset.path=/nowhere"],
        "dataset.path=/nowhere does not exist: valid is a file, or a folder with one file per split",
    ),
    "data set that reads no path": (
        ["dataset=embedded", "dataset.path=mine.csv"],
        "dataset.path=mine.csv is not read with dataset=embedded, whose pairs come with the package: valid is "
        "dataset=pairs dataset.path=mine.csv",
    ),
    "model that reads no path": (
        ["model=tiny", "model.path=mine.pth", "model.tokenizer=null"],
        "model.path=mine.pth is not read with model=tiny: valid is model=local model.path=mine.pth",
    ),
    "no layer at all": (
        ["-m", "layer=range(0,0)"],
        "layer=range(0,0) names no value, so there is nothing to run: name ",
    ),
    "no value at all in a preset's key": (
        ["-m", "seed=range(3,3)", "layer=1,3"],
        "seed=range(3,3) names no value, so there is nothing to run: name at least one",
    ),
    "column": (
        ["dataset.path={bad}/two_columns.tsv"],
        "dataset.label=label: {bad}/two_columns.tsv has no such column, there are sentence1, sentence2",
    ),
    "model": (
        ["model.path=/nowhere"],
        "model.path=/nowhere does not exist: valid is a folder with config.json and weights, or a .pth file",
    ),
    "no model path": (["model.path=null"], "model.path=null must be given with model.source=local: a folder with "),
    "truncated .pth": (["model.path={bad}/cut.pth"], "{bad}/cut.pth is damaged or not a PyTorch weight file: "),
    "truncated safetensors": (
        ["model.path={bad}/cut"],
        "{bad}/cut/model.safetensors is damaged or not a safetensors file: ",
    ),
    "NaN": (
        ["model.path={bad}/nan"],
        "{bad}/nan: rwkv.blocks.3.ln1.weight holds NaN or infinity, so the weights are damaged: fetch the file again",
    ),
    "tokenizer": (
        ["model.tokenizer=world"],
        "model.tokenizer=world has ids up to 65529, but the model's embedding table has 256 rows: valid is the "
        "tokenizer that the model was trained with",
    ),
    "device": (
        ["device=cuda"],
        "device=cuda device.index=0 is not on this machine, which has no CUDA device: use device=cpu",
    ),
}


@pytest.fixture(scope="module")
def bad_files(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from rwkv_sweep.models.rwkv6.checkpoint import _to_original_name
    from rwkv_sweep.models.rwkv6.export import load_causal_lm

    folder = tmp_path_factory.mktemp("bad")
    (folder / "two_columns.tsv").write_text("sentence1\tsentence2\na\tb\n")
    model = load_causal_lm(small_model)
    torch.save({_to_original_name(name): weight for name, weight in model.state_dict().items()}, folder / "cut.pth")
    model.save_pretrained(folder / "cut")
    for path in (folder / "cut.pth", folder / "cut" / "model.safetensors"):
        os.truncate(path, path.stat().st_size // 2)
    model.get_parameter("rwkv.blocks.3.ln1.weight").data[5] = float("nan")
    model.save_pretrained(folder / "nan")
    return folder


@dataclass(frozen=True)
class Refused:
    code: int
    out: str
    err: str
    cwd: Path


@pytest.fixture(scope="module")
def refused(
    environment: dict[str, str], job: list[str], bad_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Refused]:
    """What each of BAD_INPUT came to."""
    root = tmp_path_factory.mktemp("refused")
    folders = [root / str(number) for number in range(len(BAD_INPUT))]
    commands = [
        ([*without(job, extra), *(argument.replace("{bad}", str(bad_files)) for argument in extra)], str(folder))
        for (extra, _), folder in zip(BAD_INPUT.values(), folders, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN],
        cwd=root,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: Refused(*message, folder)
        for name, message, folder in zip(BAD_INPUT, json.loads(done.stdout), folders, strict=True)
    }


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(name: str, refused: dict[str, Refused], bad_files: Path) -> None:
    actual = refused[name]
    message = "error: " + BAD_INPUT[name][1].replace("{bad}", str(bad_files))
    assert actual.err.startswith(message) and actual.err.endswith("\n") and actual.err.count("\n") == 1, actual.err
    # What ends in a blank goes on with words that are not ours.
    assert message.endswith((" ", "valid are")) or actual.err == message + "\n"
    assert actual.code == 2 and CHECKING.sub("", actual.out) == ""
    assert list(actual.cwd.iterdir()) == []


def test_bad_input_in_a_process_of_its_own(started: Command, job: list[str], tmp_path: Path) -> None:
    done = started([*job, "-m", "precision=int9,fp16"], tmp_path)
    assert done.returncode == 2 and CHECKING.sub("", done.stdout) == ""
    assert done.stderr.startswith("error: precision=int9 is not known: valid are bf16, fp16, fp32, ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "logging",
    [
        "hydra/job_logging=disabled",
        "hydra/job_logging=none",
        "hydra/job_logging=stdout",
        "hydra/hydra_logging=none",
        "hydra.verbose=true",
    ],
)
def test_hydras_own_ways_to_log(
    command: Command, job: list[str], quality_only: list[str], logging: str, tmp_path: Path
) -> None:
    done = command(
        ["-m", "layer=0,1", *job, *quality_only, "tracking.enabled=false", "baselines=[]", logging], tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("result.json"))) == 2 and "Traceback" not in done.stderr


def test_the_version_is_this_programs(command: Command, tmp_path: Path) -> None:
    assert command(["--version"], tmp_path).stdout.startswith(f"rwkv_sweep {__version__} ")
