"""Every key and option of `conf/`, as Markdown: `rwkv-sweep reference [--write docs/configuration.md]`.

Types and defaults come from the schemas, meanings from their docstrings (`key: meaning`, a line of its own for each),
valid values from `validation`, options and presets from the YAML files and the comments at their heads.
"""

from __future__ import annotations

import argparse
import html
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.config.params import GROUPS
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.config.validation import CHOICES, RANGES, range_text

INTRODUCTION = """# Configuration

<!-- Written by: rwkv-sweep reference --write docs/configuration.md -->

A key is set by `key=value`, an option of a group is chosen by `group=option`; with `-m` either takes several values,
`key=a,b`, and every combination is run. A value with brackets, commas, colons or spaces needs double quotes within the
shell's single ones: `'dataset.splits=["train[:1000]",validation]'`. A key that is not here, and a value that is not
valid, ends in one line before anything is written. `--cfg job` in place of a run prints what a command is composed to.
"""

WHERE_JOBS_RUN = "Where jobs run, if not one after the other in one process: see [Clusters](distributed.md)."

SWEEPERS = """In which order the jobs of a sweep run. `by_model`, the default, loads each model once and leaves out a
job that repeats another; `basic` is Hydra's own, whose last key varies fastest. Others can be installed and chosen; one
that chooses its jobs during the sweep, such as Optuna's, gets the Spearman of the first split of each."""


def reference() -> str:
    """The whole page."""
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        defaults = compose("config")
    parts = [INTRODUCTION, "## A run\n", *_keys(RunConfig, "", defaults)]
    for name, schema in schemas().items():
        summary = (inspect.getdoc(schema) or "").split("\n\n")[0].replace("\n", " ")
        parts += [f"\n## `{name}`\n", f"{_wrapped(summary)}\n"]
        if name in GROUPS:
            chosen = f"Chosen by `{name}={defaults[name].name}`, the default, or another option:"
            parts += [f"{chosen}\n", *_options(name, schema), ""]
        parts += _keys(schema, f"{name}.", defaults)
    parts += [
        "\n## `configuration`\n",
        "Layers with the aggregation that suits them: `configuration=all_mean`; none is the default.\n",
    ]
    parts += _options("configuration", RunConfig)
    parts += [
        "\n## `hydra/launcher`\n",
        f"{WHERE_JOBS_RUN}\n",
    ]
    parts += ["| option | what it is |", "|---|---|"]
    parts += [f"| `{path.stem}` | {_head_sentence(path)} |" for path in _files("hydra/launcher")]
    parts += ["\n## `hydra/sweeper`\n", SWEEPERS]
    parts += ["\n## Presets\n", "Sweeps that answer a question. What is given on the command line wins.\n"]
    for path in _files("experiment"):
        parts += [f"### `+experiment={path.stem}`\n", *_preset(path), ""]
    return "\n".join(parts).rstrip() + "\n"


def meanings(schema: type) -> dict[str, str]:
    """What each key of a schema means, from the lines `key: meaning` of its docstring and what follows them."""
    names = {field.name for field in fields(schema)}
    texts: dict[str, str] = {}
    key = None
    for line in (inspect.getdoc(schema) or "").splitlines():
        start = re.match(r"(\w+): (.*)", line)
        if start and start[1] in names:
            key = start[1]
            texts[key] = start[2]
        elif not line:
            key = None
        elif key:
            texts[key] += f" {line}"
    return texts


def schemas() -> dict[str, type]:
    """The schema of each group and section by its name, in the order of a run's keys."""
    hints = typing.get_type_hints(RunConfig)
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}


def keys(schema: type) -> list[str]:
    """The keys of a schema that hold a value, and not a schema of their own."""
    hints = typing.get_type_hints(schema)
    return [field.name for field in fields(schema) if not is_dataclass(hints[field.name])]


def _keys(schema: type, prefix: str, defaults: DictConfig) -> list[str]:
    meaning, hints = meanings(schema), typing.get_type_hints(schema)
    lines = ["| key | type | default | meaning | valid |", "|---|---|---|---|---|"]
    for key in keys(schema):
        default = _code(OmegaConf.select(defaults, prefix + key))
        cells = (f"`{prefix}{key}`", _type(hints[key]), default, _text(meaning[key]), _valid(prefix + key, hints[key]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _options(group: str, schema: type) -> list[str]:
    lines = ["| option | what it is | sets |", "|---|---|---|"]
    own = {field.name: field.default for field in fields(schema) if field.default is not MISSING}
    for path in _files(group):
        content = OmegaConf.load(path)
        assert isinstance(content, DictConfig)
        sets = [f"{key}={value}" for key, value in _chosen(content)]
        for key, value in content.items():
            if key not in ("name", "defaults") and value not in (None, []) and value != own.get(str(key)):
                sets.append(f"{key!s}={_plain(value)}")
        lines.append(f"| `{path.stem}` | {_head_sentence(path)} | {', '.join(f'`{setting}`' for setting in sets)} |")
    return lines


def _preset(path: Path) -> Iterator[str]:
    """Its comment, whose indented paragraphs are code, and what it sets and sweeps."""
    for paragraph in "\n".join(_head(path)).split("\n\n"):
        code = paragraph.startswith("  ")
        yield from (f"    {line.strip()}" if code else _text(line) for line in paragraph.splitlines())
        yield ""
    content = OmegaConf.load(path)
    assert isinstance(content, DictConfig)
    bases = [base for base in content.get("defaults", []) if isinstance(base, str) and base != "_self_"]
    sets = [f"as `+experiment={base}`" for base in bases]
    sets += [f"`{key}={value}`" for key, value in _chosen(content)]
    sets += [f"`{key}={_plain(value)}`" for key, value in _flat(content) if not key.startswith(("defaults", "hydra."))]
    yield _wrapped(f"Sets {', '.join(sets)}.")
    if sweeps := OmegaConf.select(content, "hydra.sweeper.params"):
        yield "\n" + _wrapped(f"Sweeps {', '.join(f'`{key}={value}`' for key, value in sweeps.items())}.")


def _flat(values: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, DictConfig):
            yield from _flat(value, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}", value


def _chosen(content: DictConfig) -> Iterator[tuple[str, str]]:
    """Options of other groups that a file's defaults list chooses."""
    for default in content.get("defaults", []):
        if isinstance(default, DictConfig):
            ((group, option),) = default.items()
            yield str(group).removeprefix("override ").lstrip("/"), str(option)


def _files(group: str) -> list[Path]:
    return sorted((conf_dir() / group).glob("*.yaml"))


def _head(path: Path) -> list[str]:
    """The first block of comments of a file, without Hydra's own."""
    head: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            if not line.startswith("# @package"):
                head.append(line[1:].removeprefix(" "))
        elif head:
            break
    return head


def _head_sentence(path: Path) -> str:
    return _text(re.split(r"(?<=\.) (?=[A-Z])", " ".join(_head(path)))[0])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _text(text: str) -> str:
    """Of a table's cell: brackets of placeholders are no tags, bars no borders."""
    return html.escape(text, quote=False).replace("|", "\\|")


def _plain(value: Any) -> str:
    """As it is written on a command line."""
    if OmegaConf.is_list(value):
        return f"[{', '.join(_plain(item) for item in value)}]"
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _code(value: Any) -> str:
    return f"`{_plain(value)}`"


def _type(hint: Any) -> str:
    if hint is Any:
        return "any"
    if isinstance(hint, types.UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in hint.__args__)
    return str(hint) if typing.get_origin(hint) else str(hint.__name__)


def _valid(key: str, hint: Any) -> str:
    if key in CHOICES:
        return ", ".join(_code(choice) for choice in CHOICES[key])
    if key in RANGES:
        return range_text(key)
    return "`true`, `false`" if hint is bool else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the page goes."""
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it there and do not print it")


def run(args: argparse.Namespace) -> int:
    """Print the page, or write it."""
    if args.write:
        args.write.write_text(reference(), encoding="utf-8")
    else:
        print(reference(), end="")
    return 0
