"""Every Triton and Numba kernel says what it reads and writes: shapes, dtypes, and the formula or the reference."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "rwkv_sweep"
NUMBA_DECORATORS = {"compiled", "exactly", "inlined", "njit"}
DTYPE = re.compile(
    r"\b(fp32|fp16|bf16|fp8|e4m3|int8|uint8|int32|int64|(?:any|own|given)( float)? dtype|its dtype|dtype)\b"
)
SHAPE = re.compile(r"\[[A-Z0-9][^\]]*\]")
FORMULA = re.compile(r"=|\*|`|@|\bas\b|\w\(.+\)", re.IGNORECASE)
ARRAY = re.compile(r"^[a-z_][a-z0-9_]*?_[A-Z0-9]*[A-Z][A-Z0-9]*$")


def triton_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions under `@triton.jit`, with or without arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(
            _name(mark).endswith("triton.jit") for mark in node.decorator_list
        ):
            yield node


def numba_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions that `compiled`, `exactly`, `inlined` or `njit` decorate, and those handed to them by name."""
    handed = {
        argument.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _name(node.func).split(".")[-1] in NUMBA_DECORATORS
        for argument in node.args
        if isinstance(argument, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            marks = {_name(mark).split(".")[-1] for mark in node.decorator_list}
            if marks & NUMBA_DECORATORS or node.name in handed:
                yield node


def _name(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def missing_from(function: ast.FunctionDef) -> list[str]:
    """What the docstring of a kernel lacks; nothing where it is whole.

    Pointers and arrays must be named, pointers with the shapes of what they point to (the names of arrays end in
    theirs); `mix0_ptr` and `mix1_ptr` may stand under one name.
    """
    text = ast.get_docstring(function)
    if not text:
        return ["a docstring"]
    names = [argument.arg for argument in function.args.args]
    pointers = [name for name in names if name.endswith("_ptr") or name == "ptr"]
    arrays = [name for name in names if ARRAY.match(name)]
    lacks = [] if DTYPE.search(text) else ["a dtype"]
    lacks += [] if FORMULA.search(text) else ["a formula or a reference"]
    lacks += ["a shape such as [T, D]"] if pointers and not SHAPE.search(text) else []
    for name in [*pointers, *arrays]:
        stem = name.removesuffix("_ptr").rstrip("0123456789") if name in pointers else name
        if not re.search(rf"(?<![A-Za-z_]){re.escape(stem)}(?:\d*_ptr|\d+)?(?![A-Za-z_])", text):
            lacks.append(f"the parameter {name}")
    return lacks


def kernels(folder: Path) -> dict[str, ast.FunctionDef]:
    """All kernels below a folder, by file and name."""
    functions = {}
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "triton" not in source and "numba" not in source:
            continue
        tree = ast.parse(source)
        for function in (*triton_functions(tree), *numba_functions(tree)):
            functions[f"{path.relative_to(folder)}:{function.name}"] = function
    return functions


KERNELS = kernels(PACKAGE)


def test_the_search_sees_kernels_of_both_kinds() -> None:
    """Decorated with and without arguments, and handed over by name."""
    expected = {
        "ops/triton/time_mix.py:state_kernel",
        "ops/triton/residual_kernel.py:residual_kernel",
        "ops/triton/common/fast_math.py:exp",
        "ops/numba/means.py:_segment_mean",
        "ops/numba/int8.py:_quantize",
        "ops/numba/time_mix.py:scan",
        "ops/numba/compiling.py:exp32",
    }
    assert expected <= set(KERNELS) and len(KERNELS) > 35


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_says_what_it_computes(name: str) -> None:
    lacking = missing_from(KERNELS[name])
    assert not lacking, f"the docstring of {name} lacks {', '.join(lacking)}"


PLANTED = {
    "no docstring": ("@triton.jit\ndef k(x_ptr):\n    pass", ["a docstring"]),
    "no shape": ('@triton.jit\ndef k(x_ptr):\n    """x = 2 * x, fp32."""', ["a shape such as [T, D]"]),
    "no dtype": ('@triton.jit(do_not_specialize=["n"])\ndef k(x_ptr, n):\n    """x [T, D] = 2 * x."""', ["a dtype"]),
    "no formula": ('@triton.jit\ndef k(x_ptr):\n    """Reads x [T, D], fp32."""', ["a formula or a reference"]),
    "a pointer not named": (
        '@triton.jit\ndef k(x_ptr, out_ptr):\n    """2 * x [T], fp32."""',
        ["the parameter out_ptr"],
    ),
    "a name within another": ('@triton.jit\ndef k(h_ptr):\n    """2 * health [T], fp32."""', ["the parameter h_ptr"]),
    "an array not named": ('@compiled\ndef k(x_T, y_T):\n    """y_T = 2, fp32."""', ["the parameter x_T"]),
    "handed over": (
        'def k(x_T):\n    """fp32."""\ncompiled(k, cost=2)',
        ["a formula or a reference", "the parameter x_T"],
    ),
    "numbers of a family": ('@triton.jit\ndef k(mix0_ptr, mix1_ptr):\n    """2 * mix0 [D], fp32."""', []),
    "whole": ('@exactly(cost=1)\ndef k(x_T, y_T):\n    """y_T = 2 * x_T, fp32."""', []),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_a_docstring_lacks_is_named(case: str, tmp_path: Path) -> None:
    source, lacking = PLANTED[case]
    (tmp_path / "planted.py").write_text(f"# triton, numba\n{source}\n", encoding="utf-8")
    (function,) = kernels(tmp_path).values()
    assert missing_from(function) == lacking
