"""Which module of a package imports which, and what of that goes against the order of its packages."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Imports = dict[str, set[str]]


def imports(root: Path) -> Imports:
    """Modules below the folder `root` that each of its modules imports, wherever in its text; names are dotted and
    start with that of `root`."""
    paths = {_name(root, path): path for path in sorted(root.rglob("*.py"))}
    return {name: {target for target in _imported(path, paths) if target != name} for name, path in paths.items()}


def _name(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules else node.module


def package_of(module: str, packages: set[str]) -> str:
    """The package that a module lies in; a package's `__init__` lies in the package."""
    return module if module in packages else module.rpartition(".")[0]


def between_packages(actual: Imports, packages: set[str]) -> Imports:
    graph: Imports = defaultdict(set)
    for module, targets in actual.items():
        own = package_of(module, packages)
        graph[own] |= {package_of(target, packages) for target in targets} - {own}
    return dict(graph)


def cycle(graph: Imports) -> list[str]:
    """Names along one cycle, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def packages(root: Path) -> set[str]:
    return {_name(root, path) for path in root.rglob("__init__.py")}


def faults(root: Path, order: list[str], anywhere: set[str]) -> list[str]:
    """What breaks the rules, a line each.

    Args:
        order: packages right below `root`, those that may import the rest first.
        anywhere: modules at the top that every package may import.
    """
    actual, known = imports(root), packages(root)
    lines = [f"{path.name} lies at the top" for path in sorted(root.glob("*.py")) if _at_top(path, anywhere)]
    for module, targets in actual.items():
        for target in sorted(targets):
            if target.split(".")[1:] and target.split(".")[1] not in anywhere:
                lines += _order_fault(module, target, order) + _parent_fault(module, target, known)
    for name, graph in (("modules", actual), ("packages", between_packages(actual, known))):
        around = cycle({key: {t for t in ts if t not in _free(root, anywhere)} for key, ts in graph.items()})
        lines += [f"{name} import each other: {' -> '.join(around)}"] if around else []
    return lines


def _free(root: Path, anywhere: set[str]) -> set[str]:
    return {root.name, *(f"{root.name}.{name}" for name in anywhere)}


def _at_top(path: Path, anywhere: set[str]) -> bool:
    return path.stem not in {"__init__", "__main__", *anywhere}


def _order_fault(module: str, target: str, order: list[str]) -> list[str]:
    own, other = (name.split(".")[1] if "." in name else "" for name in (module, target))
    if own in ("", "__main__", other):
        return []
    unknown = [name for name in (own, other) if name not in order]
    if unknown:
        return [f"{module} imports {target}: {unknown[0]} has no place in the order"]
    return [] if order.index(own) < order.index(other) else [f"{module} imports {target}, which lies above it"]


def _parent_fault(module: str, target: str, known: set[str]) -> list[str]:
    own, other = package_of(module, known), package_of(target, known)
    return [f"{module} imports {target}, of a package it lies in"] if own.startswith(f"{other}.") else []


def too_long(root: Path, lines: int, function_lines: int, kernels: set[str]) -> list[str]:
    """Modules below `root` of more than `lines` lines, and functions of more than `function_lines` without their
    docstrings, a line each.

    Args:
        kernels: folders whose functions may be longer, since a kernel cannot be cut where a reader would like it.
    """
    faults = []
    for path in _sources(root):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        if (length := len(text.splitlines())) > lines:
            faults.append(f"{name} has {length} lines")
        if path.relative_to(root).parent.as_posix() in kernels:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (length := _length(node)) > function_lines:
                faults.append(f"{name}: {node.name} has {length} lines")
    return faults


def _sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def _length(function: ast.FunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def same_names(root: Path, alike: list[tuple[str, ...]], anywhere: set[str]) -> list[str]:
    """Public classes and functions of one name at the top of modules in different packages below `root`, a line each.

    Args:
        alike: packages that do the same for different networks or processors, so that names in them may repeat.
        anywhere: names that may repeat everywhere.
    """
    places: dict[str, set[str]] = defaultdict(set)
    for path in _sources(root):
        package = path.relative_to(root).parent.as_posix()
        group = next((names[0] for names in alike if package in names), package)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                places[node.name].add(group)
    repeated = {name: packages for name, packages in places.items() if len(packages) > 1 and name not in anywhere}
    return [f"{name} stands in {' and '.join(sorted(packages))}" for name, packages in sorted(repeated.items())]


def assigned_globals(root: Path, entry_points: set[str]) -> list[str]:
    """Functions below `root` that assign to a variable of their module, a line each: state without an owner.

    Args:
        entry_points: modules that may: what calls their functions hands nothing on.
    """
    return [
        f"{path.relative_to(root).as_posix()}: global {', '.join(node.names)}"
        for path in _sources(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Global) and path.relative_to(root).as_posix() not in entry_points
    ]


def sibling_imports(root: Path, siblings: tuple[str, ...]) -> list[str]:
    """Imports between these packages below `root` (such as `models/rwkv6`), a line each."""
    names = [f"{root.name}.{package.replace('/', '.')}." for package in siblings]
    return [
        f"{module} imports {target}"
        for module, targets in imports(root).items()
        for target in sorted(targets)
        for own in names
        if module.startswith(own) and not target.startswith(own) and target.startswith(tuple(names))
    ]


def crowded(root: Path, modules: int) -> list[str]:
    """Packages at or below `root` of more than `modules` modules beside their `__init__`, a line each."""
    counts = {init.parent: len(list(init.parent.glob("*.py"))) - 1 for init in sorted(root.rglob("__init__.py"))}
    return [f"{path.relative_to(root)} has {count} modules" for path, count in counts.items() if count > modules]


def importers(root: Path, name: str, allowed: set[str]) -> list[str]:
    """Modules below `root` that import `name` from any module, a line each.

    Args:
        allowed: modules that may, and packages, which end in `/`.
    """
    modules = [
        path.relative_to(root).as_posix()
        for path in _sources(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
    ]
    places = tuple(place for place in allowed if place.endswith("/"))
    return [f"{module} imports {name}" for module in modules if module not in allowed and not module.startswith(places)]


_MUTATORS = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "setdefault",
        "sort",
        "update",
    ]
)


def module_state(root: Path, owners: set[str]) -> list[str]:
    """What functions below `root` change of the variables of their module, and objects of the package's own classes
    that are such variables, a line each: state without an owner.

    Args:
        owners: such objects that may be (`sweep/current.py: CURRENT`).
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in _sources(root)}
    stateful = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and _changes_itself(node)
    }
    lines = []
    for path, tree in trees.items():
        name, variables = path.relative_to(root).as_posix(), _variables(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                lines += [
                    f"{name}: {node.name} changes {changed}" for changed in sorted(_changed(node, set(variables)))
                ]
        objects = [key for key, value in variables.items() if _class_of(value) in stateful]
        lines += [f"{name}: {key} holds state" for key in objects if f"{name}: {key}" not in owners]
    return lines


def _variables(tree: ast.Module) -> dict[str, ast.expr | None]:
    """Names that a module assigns at its top, with their values."""
    variables: dict[str, ast.expr | None] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            variables |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            variables[node.target.id] = node.value
    return variables


def _class_of(value: ast.expr | None) -> str | None:
    return value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else None


def _changes_itself(definition: ast.ClassDef) -> bool:
    """Whether a method changes an attribute of the object, or its class has a default made anew for each object."""
    methods = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
    changes = any(_changed(method, {"self"}) for method in methods if method.name not in ("__init__", "__post_init__"))
    return changes or any("default_factory" in ast.unparse(node) for node in definition.body)


def _changed(function: ast.FunctionDef, names: set[str]) -> set[str]:
    """Which of `names` a function changes: an item, an attribute, or by a method of a container."""
    changed = set()
    for node in ast.walk(function):
        if isinstance(node, (ast.Assign, ast.Delete)):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            changed.add(_base(node.func.value))
            continue
        else:
            continue
        changed |= {_base(target) for target in targets if isinstance(target, (ast.Subscript, ast.Attribute))}
    own = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)} - {"self"}
    return (changed & names) - own - _assigned(function)


def _assigned(function: ast.FunctionDef) -> set[str]:
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _base(node: ast.expr) -> str:
    """The name that an attribute or item belongs to: `a` of `a.b[0].c`."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
