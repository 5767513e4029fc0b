"""Composed configs as plain dicts, every option of every group, and the exact text of what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from rwkv_sweep.cli.sweep import modes_first
from rwkv_sweep.config.error_messages import is_bad_input, one_line
from rwkv_sweep.config.hydra_store import conf_dir, register_schemas, share_config_store
from rwkv_sweep.config.params import GROUPS
from rwkv_sweep.config.schema import POOLINGS, RunConfig
from rwkv_sweep.config.validation import RANGES, run_config

OPTIONS = {group: sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")) for group in GROUPS}
KEYS = (
    "aggregation, baselines, batch_tokens, bootstrap, dataset, device, isolate, layer, max_tokens, measure, model, "
    "objectives, on_error, output, output_fit, pooling, postprocess, precision, prompt, report, resume, search, seed, "
    "select, store, timeout_s, tracking, word_vectors"
)
MODEL_KEYS = (
    "eos_chunk, eos_count, eos_id, file, "
    "foreign_tokenizer, full_depth, generation, head_size, hidden_size, id, intermediate_size, name, num_blocks, path, "
    "rescale_every, revision, source, tokenizer, vocab_size"
)


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("config", list(overrides))


def plain(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def test_defaults() -> None:
    nothing = dict.fromkeys(
        (
            "path",
            "id",
            "revision",
            "tokenizer",
            "hidden_size",
            "num_blocks",
            "head_size",
            "intermediate_size",
            "vocab_size",
            "generation",
            "file",
            "eos_count",
            "eos_id",
            "foreign_tokenizer",
        )
    )
    study = {"eos_chunk": 512, "full_depth": False, "rescale_every": 0}
    assert plain(composed()) == {
        "model": {"name": "tiny", "source": "assets", **nothing, **study},
        "pooling": {"name": "mean", "source": "residual", "fit": None, "corpus": None},
        "precision": {
            "name": "fp32",
            "base": "float32",
            "quantization": "none",
            "blocks": "all",
            "modules": "all",
            "double_quantization": False,
            "calibration": "none",
            "calibration_fit": None,
        },
        "aggregation": {"name": "none", "normalize": "unit", "weights": None, "fit": None},
        "postprocess": {"name": "none", "components": 2, "head": None, "fit": None},
        "prompt": {"name": "none", "template": "{sentence}", "span": "all"},
        "device": {"name": "auto", "type": "auto", "index": None, "threads": None},
        "dataset": {
            "name": "embedded",
            "source": "assets",
            "path": None,
            "task": None,
            "id": "embedded",
            "subset": None,
            "revision": None,
            "splits": ["test"],
            "sentence1": "sentence1",
            "sentence2": "sentence2",
            "label": "label",
            "fit": "train",
            "tasks": [],
            "word_split": "punctuation",
        },
        "layer": "final",
        "output": "float32",
        "output_fit": None,
        "max_tokens": 512,
        "batch_tokens": None,
        "baselines": ["word_vectors", "word_overlap"],
        "word_vectors": {"path": None},
        "measure": {
            "latency_pairs": 20,
            "warmup_pairs": 3,
            "throughput": True,
            "throughput_seconds": 0.5,
            "parity": False,
            "representation": False,
            "probe": False,
            "probe_fit": None,
            "speedup_rounds": 0,
            "energy_seconds": 0.5,
            "overhead": False,
            "overhead_pairs": 200,
            "overhead_batches": 20,
        },
        "select": {"split": None, "by": "quality/spearman", "max_latency_ms": None, "max_weights_mib": None},
        "search": {
            "enabled": False,
            "poolings": ["mean", "last", "max", "first_last", "position", "idf"],
            "layers": ["all", "first2", "last2", "first4", "last4", "first6", "last6"],
            "aggregations": ["mean", "max", "concat", "linear", "geometric", "learned"],
            "postprocesses": ["none", "center", "abtt", "whiten"],
        },
        "tracking": {
            "enabled": True,
            "uri": "sqlite:///mlruns/mlflow.db",
            "artifacts": "mlruns/artifacts",
            "experiment": "rwkv_sweep",
        },
        "store": {"enabled": True, "path": "mlruns/store", "max_gib": 8.0},
        "report": None,
        "objectives": ["quality/spearman"],
        "bootstrap": 2000,
        "seed": 0,
        "on_error": "continue",
        "resume": False,
        "isolate": False,
        "timeout_s": None,
    }


def test_what_is_composed_from_a_shared_store_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConfigStore, "__deepcopy__", None, raising=False)  # so that it is put back
    share_config_store()
    assert copy.deepcopy(ConfigStore.instance()) is ConfigStore.instance()
    config = composed()
    before = plain(config)
    config.model.path, config.measure.latency_pairs, config.baselines = "elsewhere", 99, []
    assert plain(composed()) == before


def test_overrides_reach_the_typed_config() -> None:
    run = run_config(
        composed("layer=[1,final]", "precision=int8", "dataset=mrpc", "dataset.path=x", "device.threads=1")
    )
    assert isinstance(run, RunConfig)
    assert run.layer == [1, "final"]
    assert (run.precision.name, run.precision.base, run.precision.quantization) == ("int8", "float16", "int8")
    assert (run.dataset.id, run.dataset.subset, run.dataset.path) == ("nyu-mll/glue", "mrpc", "x")
    assert run.dataset.splits == ["validation"] and run.device.threads == 1


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in OPTIONS for option in OPTIONS[group]])
def test_every_option_composes_under_its_own_name(group: str, option: str) -> None:
    run = run_config(composed(f"{group}={option}"))
    assert getattr(run, group).name == option


@pytest.mark.parametrize("group", OPTIONS)
def test_options_of_a_group_spell_out_the_same_keys(group: str) -> None:
    """Else `group=a,b group.key=x` means different things for a and b."""
    assert OPTIONS[group], f"conf/{group} is empty"
    files = [OmegaConf.load(conf_dir() / group / f"{option}.yaml") for option in OPTIONS[group]]
    spelt_out = {option: {str(key) for key in file} for option, file in zip(OPTIONS[group], files, strict=True)}
    schema = {str(key) for key in plain(composed())[group]}
    assert spelt_out == dict.fromkeys(OPTIONS[group], schema)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "precision=int9",
            "precision=int9 is not known: valid are bf16, fp16, fp32, fp4, fp8, int4, int4_gptq, int4_hqq, int8, "
            "int8_dynamic, int8_weight, nf4, nf4_channel_mix, nf4_first_half, nf4_last_half, nf4_time_mix, tf32",
        ),
        ("pooling=men", f"pooling=men is not known: valid are {', '.join(sorted(POOLINGS))}"),
        (
            "output=int9",
            "output=int9 is not known: valid are float32, float16, int8, binary, truncate_N such as truncate_64",
        ),
        (
            "output=truncate_0",
            "output=truncate_0 is not known: valid are float32, float16, int8, binary, truncate_N such as truncate_64",
        ),
        ("precision.calibration=best", "precision.calibration=best is not known: valid are none, hqq, gptq"),
        *(
            (
                f"precision={value}",
                f"precision={value} is not valid: valid are bf16, fp16, fp32, fp4, fp8, int4, int4_gptq, int4_hqq, "
                "int8, int8_dynamic, int8_weight, nf4, nf4_channel_mix, nf4_first_half, nf4_last_half, nf4_time_mix, "
                "tf32",
            )
            for value in ("8", "null", "true")
        ),
        ("pooling=null", f"pooling=null is not valid: valid are {', '.join(sorted(POOLINGS))}"),
        (
            "hydra/launcher=null",
            "hydra/launcher=null is not valid: valid are names of options of the group hydra/launcher",
        ),
        ("on_error=never", "on_error=never is not known: valid are continue, stop"),
        (
            "timeout_s=5",
            "timeout_s=5 isolate=false: valid is a number of seconds above 0 with isolate=true, as only a process of "
            "its own can be ended in time",
        ),
        ("nonsense=1", f"nonsense is not a key: valid are {KEYS}"),
        ("+nonsense=1", f"nonsense is not a key: valid are {KEYS}"),
        ("++nonsense=1", f"nonsense is not a key: valid are {KEYS}"),
        (
            "precision.bse=float32",
            "precision.bse is not a key: did you mean base? valid are base, blocks, calibration, calibration_fit, "
            "double_quantization, modules, name, quantization",
        ),
        ("layers=3", f"layers is not a key: did you mean layer? valid are {KEYS}"),
        ("+model.foo=1", f"model.foo is not a key: valid are {MODEL_KEYS}"),
        ("bootstrap=x", "bootstrap=x is not valid: it takes a value of type Integer"),
        (
            "select=null",
            "select=null is not valid: select is a group of keys, valid are select.split, select.by, "
            "select.max_latency_ms, select.max_weights_mib",
        ),
        (
            "store=[1]",
            "store=[1] is not valid: store is a group of keys, valid are store.enabled, store.path, store.max_gib",
        ),
        ("seed=null", "seed=null is not valid: seed takes a whole number"),
        ("store.max_gib=null", "store.max_gib=null is not valid: store.max_gib takes a number"),
        ("tracking.enabled=null", "tracking.enabled=null is not valid: tracking.enabled takes true or false"),
        ("dataset.splits=null", "dataset.splits=null is not valid: dataset.splits takes a list such as [a,b]"),
        ("model.path=[a]", "model.path=[a] is not valid: model.path takes a text or null"),
        ("+select.split.a=1", "+select.split.a=1 is not valid: select.split takes a text or null"),
        ("max_tokens=true", "max_tokens=True is not valid: it takes a value of type Integer"),
        ("model.hidden_size=2.5", "model.hidden_size=2.5 is not valid: it takes a value of type Integer"),
        ("measure.throughput=maybe", "measure.throughput=maybe is not valid: it takes a value of type bool"),
        (
            "dataset.splits=validation",
            "dataset.splits=validation is not valid: dataset.splits takes a list such as [a,b]",
        ),
        (
            "postprocess.fit=train[:1000]",
            "postprocess.fit=train[:1000] cannot be read (mismatched input '[' expecting <EOF>): valid is key=value; a "
            "value with brackets, commas, colons or spaces needs double quotes within the shell's single ones, such as "
            "'postprocess.fit=\"train[:1000]\"'",
        ),
        ("pooling.source=keys", "pooling.source=keys is not known: valid are residual, values, time_mix"),
        ("pooling.name=men", f"pooling.name=men is not known: valid are {', '.join(POOLINGS)}"),
        (
            "aggregation.name=sum",
            "aggregation.name=sum is not known: valid are none, mean, concat, max, weighted, learned",
        ),
        ("device.type=tpu", "device.type=tpu is not known: valid are auto, cpu, cuda"),
        (
            "precision.base=float8",
            "precision.base=float8 is not known: valid are float32, tfloat32, bfloat16, float16",
        ),
        (
            "precision.quantization=int5",
            "precision.quantization=int5 is not known: valid are none, int8, nf4, fp4, int8_dynamic, fp8, "
            "int8_weight, int4",
        ),
        (
            "model.source=disk",
            "model.source=disk is not known: valid are assets, hub, local, random, embedding_rwkv, hf",
        ),
        ("dataset.source=disk", "dataset.source=disk is not known: valid are assets, hub, file"),
        ("dataset.word_split=all", "dataset.word_split=all is not known: valid are whitespace, punctuation"),
        ("baselines=[word_overlap,bert]", "baselines=bert is not known: valid are word_vectors, word_overlap"),
        ("bootstrap=0", "bootstrap=0 is too small: valid is 1 to 10,000,000"),
        ("measure.latency_pairs=-1", "measure.latency_pairs=-1 is too small: valid is 0 or more"),
        ("device.threads=0", "device.threads=0 is too small: valid is 1 to 1,024"),
        ("dataset.splits=[]", "dataset.splits=[] is empty: name at least one split, such as [validation]"),
    ],
)
def test_what_is_refused_and_how(override: str, message: str) -> None:
    with pytest.raises(Exception) as caught:
        run_config(composed(override))
    assert is_bad_input(caught.value)
    assert one_line(caught.value) == message


def numbers(schema: type, prefix: str = "") -> Iterator[str]:
    """The keys that take a number, through all groups."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if is_dataclass(hint):
            yield from numbers(cast(type, hint), f"{key}.")
        elif {int, float} & {hint, *get_args(hint)}:
            yield key


def test_every_number_has_a_range() -> None:
    assert set(numbers(RunConfig)) == set(RANGES)


@pytest.mark.parametrize("key", sorted(RANGES))
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e300", str(10**30)])
def test_what_is_out_of_range_is_one_line(key: str, value: str) -> None:
    with pytest.raises(Exception) as caught:
        run_config(composed(f"{key}={value}"))
    assert is_bad_input(caught.value)
    line = one_line(caught.value)
    assert "\n" not in line and key in line, line


def test_a_flaw_of_the_program_is_no_bad_input() -> None:
    assert not is_bad_input(ValueError("shapes do not match"))
    assert not is_bad_input(KeyError("layer"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("pooling=state", "pooling.source=values"),
            "pooling=state pooling.source=values: the state is of no tokens, valid with it is pooling.source=residual",
        ),
        (
            ("pooling.source=values", "search.enabled=true"),
            "pooling.source=values search.enabled=true: a search pools the blocks' outputs, valid with it is "
            "pooling.source=residual",
        ),
        (
            ("pooling.source=time_mix", "model.rescale_every=6"),
            "pooling.source=time_mix model.rescale_every=6: only a block's output is scaled, valid with it is "
            "pooling.source=residual",
        ),
    ],
)
def test_inner_vectors_are_refused_where_there_are_none(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(Exception) as caught:
        run_config(composed(*overrides))
    assert is_bad_input(caught.value) and one_line(caught.value) == message


@pytest.mark.parametrize(
    ("typed", "reordered"),
    [
        (["layer=1,3", "-m", "precision=fp16"], ["-m", "layer=1,3", "precision=fp16"]),
        (["-m", "layer=1"], ["-m", "layer=1"]),
        (["a=1", "--multirun", "b=2", "c=3"], ["--multirun", "a=1", "b=2", "c=3"]),
        (["a=1", "--cfg", "job"], ["a=1", "--cfg", "job"]),
        ([], []),
    ],
)
def test_modes_first(typed: list[str], reordered: list[str]) -> None:
    assert modes_first(typed) == reordered


@pytest.mark.parametrize(
    ("cards", "device", "expected"),
    [
        (4, ["device=cuda"], 4),
        (2, [], 2),
        (1, ["device=cuda"], 1),
        (0, [], -1),
        (4, ["device=cpu"], -1),
        (4, ["device=cuda", "device.index=1"], -1),
        (4, ["hydra.launcher.n_jobs=3"], 3),
    ],
)
def test_a_parallel_launcher_takes_every_card(
    cards: int, device: list[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    config = compose("config", ["hydra/launcher=parallel", *device], return_hydra_config=True)
    assert config.hydra.launcher.n_jobs == expected


@pytest.mark.parametrize("name", ["folder", "./folder", "./missing"])
def test_an_id_that_names_a_folder_is_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    model = run_config(composed("model=hf", f"model.id={name}")).model
    assert (model.id, model.path) == (None, name)


def test_a_folder_without_a_config_does_not_hide_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bert-base-uncased").mkdir()
    monkeypatch.chdir(tmp_path)
    model = run_config(composed("model=hf", "model.id=bert-base-uncased")).model
    assert (model.id, model.path) == ("bert-base-uncased", None)
