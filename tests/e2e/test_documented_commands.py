"""Every command that README and docs show works: it is run, composed, or left out for a reason (documented.py)."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Config
from tests.commands import Commands, Conditions
from tests.e2e.documented import (
    COMPOSE,
    RULES,
    RUN,
    Documented,
    blocks,
    commands,
    each_value_once,
    expected_runs,
    parsed,
    rule_of,
    snippets,
)
from tests.search_path import LIMIT_S, search_path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS, SNIPPETS = commands(ROOT), snippets(ROOT)
Python = Callable[..., str]

SMALL = ("device=cpu", "bootstrap=20", "measure.latency_pairs=2", "measure.warmup_pairs=1", "measure.throughput=false")
FEW_PAIRS = 'dataset.splits=["test[:16]"]'


def done(how: str) -> list[Any]:
    actual = [command for command in COMMANDS if (rule := rule_of(command)) and rule.done == how]
    return [pytest.param(command, id=command.text) for command in actual]


# --- nothing is forgotten -----------------------------------------------------------------------------------------


def test_every_command_has_a_rule_and_every_rule_a_command() -> None:
    forgotten = [f"{command.where}: {command.text}" for command in COMMANDS if rule_of(command) is None]
    assert not forgotten, f"neither run nor left out for a reason in tests/e2e/documented.py: {forgotten}"
    met = {rule for command in COMMANDS if (rule := rule_of(command))}
    assert not [rule.pattern for rule in RULES if rule not in met], "rules for commands that are no longer there"
    assert not [rule.pattern for rule in RULES if rule.done != RUN and not rule.why], "rules without a reason"


def test_tests_named_as_reasons_exist() -> None:
    files = {path.name: path for path in ROOT.glob("tests/**/test_*.py")}
    for rule in RULES:
        for name in re.findall(r"\btest_\w+(?:\.py)?", rule.why):
            assert name in files if name.endswith(".py") else f"def {name}(" in Path(__file__).read_text(), name


def test_a_forgotten_command_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Do\n\n    python -m rwkv_sweep \\\n        foo=1  # or not\n\nor `make x`\n")
    (actual,) = commands(tmp_path)
    assert actual.text == "python -m rwkv_sweep foo=1" and rule_of(actual) is None


# --- what is run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python(commands: Commands) -> Python:
    """Run `python` with these arguments in a folder; returns what it wrote, and fails unless it ended well."""
    environment = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}

    def run(arguments: list[str], cwd: Path) -> str:
        ended = commands.run(arguments, cwd, environment=environment, conditions=Conditions(python=True))
        assert ended.code == 0, f"{arguments} ended with {ended.code}:\n{ended.output}"
        return ended.output

    return run


@pytest.fixture(scope="module")
def folder(python: Python, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are started, with what they name in it: two sweeps, a model, pairs."""
    root = tmp_path_factory.mktemp("documented")
    (root / "FOLDER").mkdir()
    shutil.copy(pairs_file, root / "FOLDER" / "validation.tsv")
    save_world_model(root / "FOLDER_OR_PTH")
    # Not tracked, so that there is something to import.
    swept = ["-m", "layer=1,3", *SMALL, FEW_PAIRS, "tracking.enabled=false", "hydra.sweep.dir=A"]
    python(["-m", "rwkv_sweep", *swept], root)
    shutil.copytree(root / "A", root / "B")
    return root


def save_world_model(path: Path) -> None:
    """A narrow RWKV-6 with a row for each id of the World vocabulary."""
    model = Rwkv6ForCausalLM(Rwkv6Config(vocab_size=65536, hidden_size=32, num_hidden_layers=2, head_size=16))
    initialize(model, seed=0, zero_outputs=False)
    model.half().save_pretrained(path)


@pytest.mark.parametrize("command", done(RUN))
def test_runs(command: Documented, python: Python, folder: Path) -> None:
    rule, before = rule_of(command), records_below(folder)
    assert rule is not None
    words = [re.sub(r"^multirun/\d.*", "A", word) for word in command.words[1:]]
    if command.words[0] == "rwkv-sweep":
        words = ["-m", "rwkv_sweep", *words]
    sweeps = command.words[0] != "rwkv-sweep" and "--help" not in words
    if sweeps:
        words += [*SMALL, *rule.extra, *([] if "dataset=" in command.text else [FEW_PAIRS])]
    said = python(words, folder)
    if sweeps:
        records = [read(path) for path in records_below(folder) - before]
        assert {record["status"] for record in records} == {"FINISHED"}
        assert len(list(filter(is_model, records))) == expected_runs(words)
    else:
        assert said.strip()


def records_below(folder: Path) -> set[Path]:
    """Of runs, without the copies that MLflow keeps."""
    return {path for path in folder.rglob("result.json") if "mlruns" not in path.parts}


@pytest.mark.parametrize("command", done(COMPOSE))
def test_composes(command: Documented) -> None:
    words = command.words
    overrides = [word for word in words[words.index("rwkv_sweep") + 1 :] if word != "-m"] if "-m" in words else words
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        given = parsed(overrides)
        fixed = [override.input_line for override in given if not override.is_sweep_override()]
        preset = compose("config", fixed, return_hydra_config=True).hydra.sweeper.params or {}
        whole = [*parsed([f"{key}={values}" for key, values in preset.items()]), *given]
        jobs = each_value_once(whole)
        for job in jobs:
            run_config(compose("config", job))
    assert (len(jobs) > 1) == ("-m" in words[3:] or "+experiment" in command.text)


# --- from README alone --------------------------------------------------------------------------------------------


def test_the_journey(python: Python, tmp_path: Path) -> None:
    """The file of pairs as README shows it, its command on two layers, its search: two runs with their Spearman."""
    (pairs,) = [block for _, _, block in blocks(ROOT) if block[0] == "sentence1,sentence2,label"]
    (tmp_path / "mine.csv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    (command,) = [command for command in COMMANDS if "mine.csv layer=3,final" in command.text]
    said = python([*command.words[1:]], tmp_path)
    assert re.search(r"^.*\bfinal\b.*$", said, re.MULTILINE) and "report.html" in said

    # Other pairs, and the same run once more.
    for _ in range(2):
        python(["-m", "rwkv_sweep", "layer=5", *SMALL, FEW_PAIRS], tmp_path)
    (search,) = [snippet for snippet in SNIPPETS if "mlflow.search_runs" in snippet.text]
    show = 'runs[["params.dataset", *columns]].to_json("found.json", orient="records")'
    shown = python(["-c", f"{search.text}\n{show}"], tmp_path)
    assert re.findall(r"^(?:pairs|embedded)$", shown, re.MULTILINE) == ["embedded", "pairs"]
    for word in ("params.precision", "quality/spearman_lo", "fp32", "mean", "tiny", "final"):
        assert word in shown
    rows = read(tmp_path / "found.json")
    assert [row["params.layer"] for row in rows if row["params.dataset"] == "embedded"] == ["5"]
    actual = {row["params.layer"]: row["metrics.quality/spearman"] for row in rows if row["params.dataset"] == "pairs"}
    records = [read(path) for path in tmp_path.glob("multirun/*/*/*/result.json")]
    scored = {
        str(record["params"]["layer"]): record["metrics"]["quality/spearman"] for record in records if is_model(record)
    }
    assert actual.keys() == {"3", "final"} and actual == pytest.approx(scored, abs=1e-9)
    assert list(actual.values()) == sorted(actual.values(), reverse=True), "best first"


def test_from_a_sweep_to_vectors(python: Python, tmp_path: Path) -> None:
    """All of docs/use.md in its order, on few texts; the encoder of a run gives the run's scores."""
    (pairs,) = [block for _, _, block in blocks(ROOT) if block[0] == "sentence1,sentence2,label"]
    (tmp_path / "mine.csv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    texts = [f"{start} number {number}." for number in range(20) for start in ("The cat slept,", "Rain fell,")]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    said = []
    for block in [block for path, _, block in blocks(ROOT) if path == "docs/use.md"]:
        if block[0].startswith("rwkv-sweep "):
            said.append(python(["-m", "rwkv_sweep", *shlex.split(block[0])[1:]], tmp_path))
        elif block[0].startswith("python "):
            said.append(python([*shlex.split(block[0])[1:], *SMALL], tmp_path))
        else:
            said.append(python(["-c", "\n".join(block)], tmp_path))
    assert len(said) == 7
    assert "layer=5" in said[1] and "(2, 256)" in said[1]
    assert said[3].startswith("40 texts, 256 numbers each") and said[4].startswith("1.000  The cat slept, number 0.")
    assert said[5].splitlines()[-1] == "models:/my-encoder/1" and "(1, 256)" in said[6]
    assert (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name")
    check = """
from rwkv_sweep import Encoder
from rwkv_sweep.data.splits import load_splits
encoder = Encoder.from_run("choice/2")
(split,) = load_splits(encoder.config.dataset)
first, second = (encoder.encode(list(texts)) for texts in (split.sentences1, split.sentences2))
print(*encoder.similarity_pairwise(first, second).tolist())
"""
    cosines = [float(number) for number in python(["-c", check], tmp_path).splitlines()[-1].split()]
    scores = (tmp_path / "choice" / "2" / "pairs.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert cosines == pytest.approx([float(row.split(",")[-1]) for row in scores], abs=1e-6)


def is_model(record: dict[str, Any]) -> bool:
    return record["kind"] == "model"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_class_in_readme(python: Python, tmp_path: Path) -> None:
    (snippet,) = [snippet for snippet in SNIPPETS if "Encoder.from_config" in snippet.text]
    check = 'every = encoder.encode_layers(["A cat."], "all")\nprint(vectors.shape, vectors.dtype, every.shape)'
    assert python(["-c", f"{snippet.text}\n{check}"], tmp_path).split("\n")[-2] == "(2, 256) float32 (12, 1, 256)"


# --- the steps of docs/adding.md ----------------------------------------------------------------------------------


def test_a_pooling_added_as_described_is_swept(environment: dict[str, str], tmp_path: Path) -> None:
    # Compiled files and all: a copy keeps the times that they go by.
    for name in ("rwkv_sweep", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("assets"))
    (tmp_path / "rwkv_sweep" / "assets").symlink_to(ROOT / "rwkv_sweep" / "assets")
    (example,) = [snippet for snippet in SNIPPETS if snippet.text.startswith("def rms")]
    source = tmp_path / "rwkv_sweep" / "embedding" / "pooling.py"
    source.write_text(insert(source.read_text(), "POOLS: dict", f"{example.text}\n\n\n", "{\n", '    "rms": rms,\n'))
    schema = tmp_path / "rwkv_sweep" / "config" / "schema.py"
    schema.write_text(insert(schema.read_text(), "POOLINGS = ", "", "(", '"rms", '))
    (tmp_path / "conf" / "pooling" / "rms.yaml").write_text(
        (ROOT / "conf" / "pooling" / "mean.yaml").read_text().replace("mean", "rms")
    )
    swept = re.findall(r"`(-m pooling=mean,rms)`", (ROOT / "docs" / "adding.md").read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "rwkv_sweep", *swept[0].split(), *SMALL, FEW_PAIRS, "tracking.enabled=false"]
    env = {**environment, "PYTHONPATH": search_path(tmp_path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert ended.returncode == 0, ended.stderr
    records = [read(path) for path in tmp_path.glob("multirun/*/*/*/result.json")]
    scores = {
        record["params"]["pooling"]: record["metrics"]["quality/spearman"] for record in records if is_model(record)
    }
    assert scores.keys() == {"mean", "rms"} and scores["mean"] != scores["rms"]


def insert(text: str, line: str, above: str, behind: str, here: str) -> str:
    """`text` with `above` before the line that starts so, and `here` behind the next `behind`."""
    start = text.index(f"\n{line}") + 1
    place = text.index(behind, start) + len(behind)
    return text[:start] + above + text[start:place] + here + text[place:]


# --- what is not run, but is there --------------------------------------------------------------------------------


def test_make_targets() -> None:
    """Those in blocks and those in running text; that of the first result runs the very command that is shown."""
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    targets = {name for text in texts for name in re.findall(r"(?:`|^ {4,})make ([a-z-]+)", text, re.MULTILINE)}
    assert targets >= {"sweep", "ui", "test", "docs", "bench", "server"}
    for target in targets:
        ended = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 0, f"make {target}: {ended.stderr}"
        if target == "sweep":
            assert next(command.text for command in COMMANDS if command.text.startswith(".venv")) in ended.stdout


def test_modules_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    names = {
        name for text in texts for name in re.findall(r"python -m ((?:rwkv_sweep|benchmarks|pretraining)[\w.]*)", text)
    }
    assert len(names) > 8
    assert not [name for name in names if importlib.util.find_spec(name.rstrip(".")) is None]


def test_extras_exist() -> None:
    (extras,) = re.findall(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    named = [name for command in COMMANDS for name in re.findall(r"^pip .*\[(\w+)\]", command.text)]
    assert named and set(named) <= set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
