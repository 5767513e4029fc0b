"""The order of the packages: imports go one way, between packages and between modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import layout

ORDER = [
    "cli",
    "export",
    "api",
    "sweep",
    "report",
    "evaluation",
    "profiling",
    "embedding",
    "models",
    "ops",
    "tracking",
    "data",
    "hardware",
    "records",
    "config",
    "stats",
    "utils",
]
"""Packages, those first that may import the ones after them."""
ANYWHERE = {"errors", "version"}


def test_imports_go_one_way(repo_root: Path) -> None:
    assert layout.faults(repo_root / "rwkv_sweep", ORDER, ANYWHERE) == []


def test_every_package_says_what_belongs_there(repo_root: Path) -> None:
    inits = sorted((repo_root / "rwkv_sweep").rglob("__init__.py"))
    assert len(inits) > len(ORDER)
    assert [path for path in inits if not path.read_text(encoding="utf-8").startswith('"""')] == []


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("stats/bootstrap.py", "from rwkv_sweep.report import summary", "which lies above it"),
        ("utils/files.py", "def f():\n    import rwkv_sweep.cli.sweep", "which lies above it"),
        ("models/rwkv6/blocks.py", "from rwkv_sweep.models.loading import load_model", "of a package it lies in"),
        ("data/pairs.py", "from rwkv_sweep.data.splits import load_splits", "modules import each other: "),
        ("another.py", "", "another.py lies at the top"),
        ("another/__init__.py", "from rwkv_sweep.utils import files", "another has no place in the order"),
    ],
)
def test_what_breaks_the_order_is_found(repo_root: Path, tmp_path: Path, module: str, line: str, message: str) -> None:
    package = tmp_path / "rwkv_sweep"
    shutil.copytree(repo_root / "rwkv_sweep", package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    path = package / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n\n{line}\n")
    assert any(message in fault for fault in layout.faults(package, ORDER, ANYWHERE))


LINES, FUNCTION_LINES, MODULES = 250, 60, 12
KERNELS = {"ops/triton", "ops/triton/quantized", "ops/triton/rwkv7", "ops/numba"}
ALIKE = [
    ("models/rwkv4", "models/rwkv5", "models/rwkv6", "models/rwkv7"),
    ("ops/numba", "ops/triton", "ops/triton/rwkv7"),
]
COMMANDS = {"main"}
ENTRY_POINTS = {"cli/sweep.py"}
"""Hydra calls its function with a config alone."""

WHOLE_RUN = {
    "config/",
    "cli/reference.py",
    "api/composing.py",
    "api/encoder.py",
    "api/loading.py",
    "sweep/preflight.py",
    "sweep/runs/job.py",
    "sweep/runs/run_key.py",
}
"""Where the config of a whole run is needed: it is defined, described or composed; all runs of a sweep are checked; a
job is measured, or gets its key. Other modules get the groups and values that they use."""


def test_modules_and_functions_are_short(repo_root: Path) -> None:
    assert layout.too_long(repo_root / "rwkv_sweep", LINES, FUNCTION_LINES, KERNELS) == []


def test_packages_are_small(repo_root: Path) -> None:
    assert layout.crowded(repo_root / "rwkv_sweep", MODULES) == []


def test_a_crowded_package_is_found(tmp_path: Path) -> None:
    package = tmp_path / "rwkv_sweep" / "data"
    package.mkdir(parents=True)
    for name in ("__init__", *(f"module_{number}" for number in range(MODULES))):
        (package / f"{name}.py").touch()
    assert layout.crowded(package.parent, MODULES) == []
    (package / "one_more.py").touch()
    assert layout.crowded(package.parent, MODULES) == [f"data has {MODULES + 1} modules"]


def test_no_two_packages_use_one_name_for_two_things(repo_root: Path) -> None:
    assert layout.same_names(repo_root / "rwkv_sweep", ALIKE, COMMANDS) == []


def test_no_function_assigns_to_a_variable_of_its_module(repo_root: Path) -> None:
    assert layout.assigned_globals(repo_root / "rwkv_sweep", ENTRY_POINTS) == []


def test_no_generation_needs_another(repo_root: Path) -> None:
    assert layout.sibling_imports(repo_root / "rwkv_sweep", ALIKE[0]) == []


def test_a_generation_that_needs_another_is_found(tmp_path: Path) -> None:
    line = "from rwkv_sweep.models.rwkv6.blocks import Block\n"
    modules = {"models__rwkv6__blocks": "", "models__rwkv7__blocks": line, "models__rwkv6__network": line}
    root = package_with(tmp_path / "rwkv_sweep", **modules, models__common__shape=line)
    assert layout.sibling_imports(root, ALIKE[0]) == [
        "rwkv_sweep.models.rwkv7.blocks imports rwkv_sweep.models.rwkv6.blocks"
    ]


def package_with(root: Path, **modules: str) -> Path:
    """A package whose modules hold these texts; `__` in a name stands for `/`."""
    for name, text in modules.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def function_of(lines: int, documented: bool = False) -> str:
    docstring = '    """In\n    three\n    lines."""\n' if documented else ""
    return "def f():\n" + docstring + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("data__pairs", "x = 0\n" * 250, None),
        ("data__pairs", "x = 0\n" * 251, "data/pairs.py has 251 lines"),
        ("data__pairs", function_of(60), None),
        ("data__pairs", function_of(61), "data/pairs.py: f has 61 lines"),
        ("data__pairs", function_of(60, documented=True), None),
        ("data__pairs", function_of(61, documented=True), "data/pairs.py: f has 61 lines"),
        ("data__pairs", "class C:\n    " + function_of(61).replace("\n", "\n    "), "data/pairs.py: f has 61 lines"),
        ("ops__triton__kernel", function_of(61), None),
        ("ops__common__packing", function_of(61), "ops/common/packing.py: f has 61 lines"),
    ],
)
def test_what_is_too_long_is_found(tmp_path: Path, name: str, text: str, fault: str | None) -> None:
    actual = layout.too_long(package_with(tmp_path, **{name: text}), LINES, FUNCTION_LINES, KERNELS)
    assert actual == ([] if fault is None else [fault])


@pytest.mark.parametrize(
    ("first", "second", "text", "is_fault"),
    [
        ("report__a", "stats__b", "class Entry:\n    pass\n", True),
        ("report__a", "stats__b", "def entry():\n    pass\n", True),
        ("report__a", "report__page__b", "class Entry:\n    pass\n", True),
        ("report__a", "report__b", "class Entry:\n    pass\n", False),
        ("report__a", "stats__b", "def _entry():\n    pass\n", False),
        ("report__a", "stats__b", "def main():\n    pass\n", False),
        ("models__rwkv6__a", "models__rwkv7__b", "class Block:\n    pass\n", False),
        ("models__rwkv6__a", "models__common__b", "class Block:\n    pass\n", True),
    ],
)
def test_a_name_of_two_things_is_found(tmp_path: Path, first: str, second: str, text: str, is_fault: bool) -> None:
    root = package_with(tmp_path, **{first: text, second: text})
    assert bool(layout.same_names(root, ALIKE, COMMANDS)) == is_fault


def test_a_variable_of_a_module_that_a_function_assigns_is_found(tmp_path: Path) -> None:
    root = package_with(tmp_path, sweep__run="_kept = None\ndef keep(x):\n    global _kept\n    _kept = x\n")
    assert layout.assigned_globals(root, ENTRY_POINTS) == ["sweep/run.py: global _kept"]


def test_modules_get_the_parts_of_a_run_that_they_use(repo_root: Path) -> None:
    assert layout.importers(repo_root / "rwkv_sweep", "RunConfig", WHOLE_RUN) == []
    needless = {
        place for place in WHOLE_RUN if not layout.importers(repo_root / "rwkv_sweep", "RunConfig", WHOLE_RUN - {place})
    }
    assert needless == set()


@pytest.mark.parametrize(
    ("module", "line", "is_fault"),
    [
        ("profiling__speed", "from rwkv_sweep.config.schema import RunConfig", True),
        ("profiling__speed", "def f():\n    from rwkv_sweep.sweep.runs.job import RunConfig as Run", True),
        ("sweep__runs__run", "from rwkv_sweep.config.schema import MeasureConfig, RunConfig", True),
        ("profiling__speed", "from rwkv_sweep.config.schema import MeasureConfig", False),
        ("config__params", "from rwkv_sweep.config.schema import RunConfig", False),
        ("sweep__runs__job", "from rwkv_sweep.config.schema import RunConfig", False),
    ],
)
def test_a_module_that_gets_a_whole_run_is_found(tmp_path: Path, module: str, line: str, is_fault: bool) -> None:
    root = package_with(tmp_path / "rwkv_sweep", **{module: line})
    assert bool(layout.importers(root, "RunConfig", WHOLE_RUN)) == is_fault


OWNERS = {"sweep/current.py: CURRENT", "sweep/runs/process.py: THIS_PROCESS", "utils/redaction.py: SECRETS"}
"""State of a process whose users are called by Hydra or by libraries, which hand them nothing; each says so."""


def test_no_module_holds_state(repo_root: Path) -> None:
    assert layout.module_state(repo_root / "rwkv_sweep", OWNERS) == []
    assert len(layout.module_state(repo_root / "rwkv_sweep", set())) == len(OWNERS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("_kept = {}\ndef keep(key, x):\n    _kept[key] = x\n", "keep changes _kept"),
        (
            "_kept: dict[str, int] = {}\ndef keep(key, x):\n    _kept.setdefault(key, []).append(x)\n",
            "keep changes _kept",
        ),
        ("_kept = set()\nclass A:\n    def keep(self, x):\n        _kept.add(x)\n", "keep changes _kept"),
        ("_kept = []\ndef forget():\n    del _kept[:]\n", "forget changes _kept"),
        ("_kept = []\ndef count():\n    _kept[0] += 1\n", "count changes _kept"),
        ("_kept = object()\ndef keep(x):\n    _kept.value = x\n", "keep changes _kept"),
        ("class A:\n    def keep(self, x):\n        self.value = x\nKEPT = A()\n", "KEPT holds state"),
        ("class A:\n    def keep(self, x):\n        self.values.append(x)\nKEPT = A()\n", "KEPT holds state"),
        ("class A:\n    x: B = field(default_factory=B)\nKEPT = A()\n", "KEPT holds state"),
        ("WORDS = {}\ndef word(key):\n    return WORDS[key]\n", None),
        ("words = {}\ndef word(words):\n    words[0] = 1\n", None),
        ("words = {}\ndef word():\n    words = {}\n    words[0] = 1\n", None),
        ("class A:\n    def __init__(self, x):\n        self.value = x\nSIZE = A(5)\n", None),
    ],
)
def test_state_of_a_module_is_found(tmp_path: Path, text: str, fault: str | None) -> None:
    root = package_with(tmp_path, sweep__run=text)
    assert layout.module_state(root, OWNERS) == ([] if fault is None else [f"sweep/run.py: {fault}"])
