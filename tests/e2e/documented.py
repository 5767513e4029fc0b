"""The commands that README and docs show, and what is done with each of them here.

A command is a line of an indented or fenced block that a shell could be given; lines ending in a backslash go on. The
first rule that matches says whether it is run, composed (each key, option and value checked as before a run), or
neither, and why. test_documented_commands.py fails for a command without a rule and for a rule without a command.
"""

from __future__ import annotations

import math
import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from rwkv_sweep.config.params import GROUPS

SOURCES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "pretraining/README.md", "rwkv_sweep/assets/README.md")
COMMAND = re.compile(
    r"(?:\.venv/bin/)?(?:python |pip |make\b|mlflow |rwkv-sweep)|ray |source |\w+=\S+ python |[a-z]+=[a-z]"
)
PYTHON = re.compile(r"(?:import|from|def|class) \w")

RUN, COMPOSE, NOT = "run", "composed", "not run"


@dataclass(frozen=True)
class Rule:
    """What is done with the commands that `pattern` matches from their start; `extra` is what makes a run small."""

    pattern: str
    done: str
    why: str
    extra: tuple[str, ...] = ()


SAME = "its path is that of the runs here, of more layers or longer"
_IN_USE = "run by test_from_a_sweep_to_vectors"
RULES = (
    # A sweep of one's own pairs, with README alone: test_the_journey.
    Rule(r"source \.venv/bin/activate$", NOT, "sets a shell up; commands here are run by that interpreter"),
    Rule(
        r"python -m rwkv_sweep -m dataset=pairs dataset\.path=mine\.csv layer=3,final$", NOT, "run by test_the_journey"
    ),
    Rule(
        r"\.venv/bin/python -m rwkv_sweep -m layer=1,3,5,7,9,11 precision=fp16,int8$",
        COMPOSE,
        "test_headline.py runs it",
    ),
    Rule(r"python -m rwkv_sweep layer=5$", RUN, ""),
    Rule(r"python -m rwkv_sweep -m layer=0,5,final pooling=mean,last$", RUN, ""),
    Rule(r"python -m rwkv_sweep -m dataset=mrpc dataset\.path=FOLDER", RUN, ""),
    Rule(r"python -m rwkv_sweep model=local model\.path=FOLDER_OR_PTH", RUN, ""),
    Rule(
        r"python -m rwkv_sweep -m pooling\.source=",
        COMPOSE,
        "tests/unit/models/test_inner_vectors.py compares every source with hooks",
    ),
    Rule(r"python -m rwkv_sweep --help$", RUN, ""),
    Rule(r"python -m rwkv_sweep model=finch_1b6", COMPOSE, "needs the hub; model=local takes the same path from disk"),
    Rule(
        r"python -m rwkv_sweep -m model=hf",
        COMPOSE,
        "needs the hub; test_transformers_network.py runs small networks from folders",
    ),
    Rule(
        r"python -m rwkv_sweep (-m )?model=embedding_rwkv",
        COMPOSE,
        "needs the hub or its file; test_embedding_rwkv.py runs a small one",
    ),
    # From a sweep to vectors, with docs/use.md alone.
    Rule(r"python -m rwkv_sweep -m dataset=pairs dataset\.path=mine\.csv layer=3,5,final", NOT, _IN_USE),
    Rule(r"rwkv-sweep encode SHARDS ", NOT, "test_encoding.py encodes a folder"),
    Rule(r"rwkv-sweep (export|encode|register) ", NOT, _IN_USE),
    # Presets.
    Rule(
        r"python -m rwkv_sweep \+experiment=aggregation_overhead$",
        RUN,
        "",
        (
            "configuration=final,all_mean",
            "device.threads=1",
            "batch_tokens=128",
            "measure.overhead_pairs=2",
            "measure.overhead_batches=1",
        ),
    ),
    Rule(
        r"python -m rwkv_sweep \+experiment=aggregation_overhead configuration=final,layer_5,all_mean measure",
        COMPOSE,
        "the preset itself is run, smaller",
    ),
    Rule(
        r"python -m rwkv_sweep -m layer=1,5,final precision=fp16,int8 dataset=embedded_hard$",
        COMPOSE,
        "test_headline.py runs its like",
    ),
    Rule(
        r"python -m rwkv_sweep \+experiment=quantization",
        COMPOSE,
        "test_quantization.py runs the first; both make its report",
    ),
    Rule(r"python -m rwkv_sweep \+experiment=paper", COMPOSE, "test_paper.py runs it"),
    Rule(
        r"python -m rwkv_sweep \+experiment=representation$",
        COMPOSE,
        "tests/unit/evaluation/representation has the metrics; the rest is that of any sweep over layers",
    ),
    Rule(
        r"python -m rwkv_sweep \+experiment=mteb",
        COMPOSE,
        "mteb is no dependency; make test-mteb runs it on tasks in memory",
    ),
    Rule(
        r"python -m rwkv_sweep \+experiment=search$",
        RUN,
        "",
        (
            "search.poolings=[mean,last]",
            "search.layers=[all,first4]",
            'select.split="train[:24]"',
            'pooling.fit="train[:24]"',
        ),
    ),
    Rule(
        r"python -m rwkv_sweep hydra/sweeper=optuna \+experiment=optuna$",
        NOT,
        "needs the extra optuna; make test-optuna runs it",
    ),
    Rule(
        r"python -m rwkv_sweep \+experiment=generations model\.path=",
        COMPOSE,
        "its models are not in the repository; test_generations_report.py makes its report",
    ),
    Rule(
        r"python -m benchmarks\.layer_choice --models",
        NOT,
        "needs MRPC; test_layer_choice.py runs it on a made-up sweep",
    ),
    # Sweeps that survive, other launchers, servers.
    Rule(r"python -m rwkv_sweep -m layer=1,3,5 resume=true", RUN, ""),
    Rule(r"rwkv-sweep import multirun/", RUN, ""),
    Rule(
        r"python -m rwkv_sweep -m layer=1,3,5 hydra/launcher=parallel",
        COMPOSE,
        "tests/faults/test_launchers.py runs it",
    ),
    Rule(
        r"python -m rwkv_sweep -m layer=1,3,5 hydra/launcher=slurm",
        COMPOSE,
        "needs a cluster; slurm_local is run there",
    ),
    Rule(r"python -m rwkv_sweep -m layer=1,3,5 hydra/launcher=ray", NOT, "needs Ray; tests/faults/test_ray.py runs it"),
    Rule(r"ray (up|attach) deploy/", NOT, "needs machines; test_ray.py has Ray check the file"),
    Rule(r"ray start ", NOT, "needs Ray; tests/faults/test_ray.py starts a cluster"),
    Rule(r"python -m rwkv_sweep -m \.\.\. tracking\.uri=", NOT, "stands for any sweep; test_tracking.py has a server"),
    Rule(r"python -m rwkv_sweep -m layer=1,3,5 tracking\.uri=http", COMPOSE, "needs the server before it"),
    Rule(r"pip install 'mteb", NOT, "downloads; make test-mteb"),
    Rule(r"pip install 'rwkv-sweep\[", NOT, "downloads; test_extras_exist"),
    # Reports, and the page of all keys.
    Rule(r"rwkv-sweep reference --write", NOT, "test_reference.py runs it, and would not write here"),
    Rule(r"rwkv-sweep report multirun/", RUN, ""),
    Rule(r"rwkv-sweep report A B C", NOT, "test_several_sweeps.py runs it"),
    Rule(r"rwkv-sweep compare A B", RUN, ""),
    Rule(r"python -m tests\.browser\.screenshots ", NOT, "needs a browser; make test-browser drives the same pages"),
    # Figures that took long, on models or corpora that are not in the repository.
    Rule(r"python -m rwkv_sweep -m model=local model\.path=(rwkv\d-tiny-bytes|FILE)\.pth", COMPOSE, SAME),
    Rule(r"python -m rwkv_sweep -m layer=embedding,0,1,2,3,4,5,6,7,8,9,10,11,final", COMPOSE, SAME),
    Rule(r"python -m pretraining\.", NOT, "needs the corpus, a GPU and hours; test_pretraining_data.py runs its parts"),
    Rule(r"python -c ", NOT, "of the training too"),
    Rule(r"make ", NOT, "needs a set-up of its own, or takes long; test_make_targets, which names what each runs"),
    Rule(r"python -m pytest -q tests/unit/", NOT, "a file of these very tests"),
    # Precisions and outputs, each of which has a test of its own.
    Rule(r"python -m rwkv_sweep -m precision=fp32,int4,", COMPOSE, "test_calibration.py (unit) quantizes so"),
    Rule(r"python -m rwkv_sweep -m output=float32,", COMPOSE, "test_output_formats.py (unit) scores all of them"),
    # Overrides alone, in docs/quantization.md.
    Rule(r"precision=", COMPOSE, "test_quantization.py (unit) quantizes so"),
)


@dataclass(frozen=True)
class Documented:
    """A command or a piece of Python, and where it stands."""

    text: str
    where: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def commands(root: Path) -> list[Documented]:
    """Every command, each text once, without comments behind it."""
    actual: dict[str, Documented] = {}
    for path, line, block in blocks(root):
        joined = re.sub(r"\\\n\s*", "", "\n".join(block))
        for text in map(str.strip, joined.splitlines()):
            if COMMAND.match(text):
                bare = re.sub(r"\s+#\s.*$", "", text)
                actual.setdefault(bare, Documented(bare, f"{path}, block at line {line}"))
    return list(actual.values())


def snippets(root: Path) -> list[Documented]:
    """Every block of Python."""
    return [
        Documented("\n".join(block), f"{path}, block at line {line}")
        for path, line, block in blocks(root)
        if PYTHON.match(block[0])
    ]


def blocks(root: Path) -> list[tuple[str, int, list[str]]]:
    """Indented and fenced blocks: file, number of the first line, lines without what indents them all."""
    actual = []
    for path in sorted(path for pattern in SOURCES for path in root.glob(pattern)):
        lines = path.read_text(encoding="utf-8").splitlines()
        block: list[str] = []
        fenced = False
        for number, line in enumerate([*lines, "end"], start=1):
            fence = line.lstrip().startswith("```")
            if not fence and (fenced or re.match(r" {4,}\S", line) or (block and not line)):
                block.append(line)
                continue
            fenced ^= fence
            if block:
                whole = textwrap.dedent("\n".join(block)).strip("\n").splitlines()
                actual.append((path.relative_to(root).as_posix(), number - len(block), whole))
                block = []
    return actual


def rule_of(command: Documented) -> Rule | None:
    return next((rule for rule in RULES if re.match(rule.pattern, command.text)), None)


def each_value_once(overrides: list[Any]) -> list[list[str]]:
    """As many jobs as the longest list has values, each key taking its own in turn: not every combination. Of a key
    that is no group the first value and the last, as the others are of the same type."""
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    values = [list(dict.fromkeys(column)) for column in zip(*combinations, strict=True)]
    groups = (*(f"{group}=" for group in GROUPS), "configuration=")
    kept = [
        choices if choices[0].startswith(groups) else list(dict.fromkeys((choices[0], choices[-1])))
        for choices in values
    ]
    return [[choices[n % len(choices)] for choices in kept] for n in range(max(map(len, kept)))]


def parsed(overrides: list[str]) -> list[Any]:
    return list(OverridesParser.create().parse_overrides(overrides))


def expected_runs(words: list[str]) -> int:
    """How many jobs the values make that are separated by commas, of the keys that the commands sweep."""
    swept = [
        word.split("=", 1)[1] for word in words if re.match(r"(layer|pooling|configuration|precision\.blocks)=", word)
    ]
    return math.prod(len(values.split(",")) for values in swept)
