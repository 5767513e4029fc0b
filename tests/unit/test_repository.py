"""Files for people and services around the code: they agree with the code and with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rwkv_sweep.cli.verbs import VERBS
from rwkv_sweep.version import __version__
from tests.unit.test_layout import ORDER

DOCS = Path(__file__).parents[2] / "docs"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def yaml_of(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_changelog_and_citation_have_the_version_and_its_date(repo_root: Path) -> None:
    changelog = (repo_root / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert releases == sorted(releases, key=lambda release: release[1], reverse=True), "newest first"
    citation = yaml_of(repo_root / "CITATION.cff")
    assert releases[0] == (__version__, citation["date-released"]) and citation["version"] == __version__


def test_changelog_has_the_headings_of_its_format(repo_root: Path) -> None:
    changelog = (repo_root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)", changelog, re.MULTILINE)[0] == "[Unreleased]"
    headings = set(re.findall(r"^### (.*)", changelog, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_ci_runs_every_python_that_the_package_and_make_accept(repo_root: Path) -> None:
    workflow = yaml_of(repo_root / ".github" / "workflows" / "ci.yml")
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    project = (repo_root / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r"Python :: (3\.\d+)\"", project) == PYTHONS
    assert 'requires-python = ">=3.10,<3.14"' in project
    assert "(3, 10) <= sys.version_info[:2] <= (3, 13)" in (repo_root / "Makefile").read_text(encoding="utf-8")


DISTRIBUTIONS = {
    "hydra": "hydra-core",
    "pynvml": "nvidia-ml-py",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
}
"""Of imports that are called otherwise."""
NOT_DECLARED = {"triton": "comes with torch", "mteb": "its pins contradict the others: an environment of its own"}


def test_what_is_imported_is_declared(repo_root: Path) -> None:
    project = (repo_root / "pyproject.toml").read_text(encoding="utf-8")
    listed = project[project.index("\ndependencies = [") : project.index("\n[dependency-groups]")]
    declared = {name.lower() for name in re.findall(r"\"([A-Za-z][\w-]*)[<>=]=?[^\"]*\"", listed)}
    own = {"rwkv_sweep", "hydra_plugins"}
    sources = [path for name in own for path in (repo_root / name).rglob("*.py")]
    known = own | NOT_DECLARED.keys() | sys.stdlib_module_names
    undeclared = {
        (name, str(path.relative_to(repo_root)))
        for path in sources
        for name in imported(path.read_text(encoding="utf-8")) - known
        if DISTRIBUTIONS.get(name, name).replace("_", "-") not in {one.replace("_", "-") for one in declared}
    }
    assert undeclared == set()


def imported(source: str) -> set[str]:
    """The top-level packages that a module imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {name.partition(".")[0] for name in names}


def test_pre_commit_runs_what_make_lint_runs(repo_root: Path) -> None:
    shown = subprocess.run(["make", "-n", "lint"], cwd=repo_root, capture_output=True, text=True, check=True).stdout
    linters = [line for line in shown.splitlines() if re.match(r"\.venv/bin/(ruff|mypy)", line)]
    config = yaml_of(repo_root / ".pre-commit-config.yaml")
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    # Pre-commit names the files itself; ruff then needs to be asked to leave out what the configuration leaves out.
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in hooks] == [
        line.removesuffix(" .") for line in linters
    ]


def test_templates_ask_for_the_command_and_link_to_files_that_exist(repo_root: Path) -> None:
    bug = yaml_of(repo_root / ".github" / "ISSUE_TEMPLATE" / "bug.yml")
    assert {field["id"] for field in bug["body"]} >= {"command", "seen", "expected", "environment"}
    template = repo_root / ".github" / "pull_request_template.md"
    links = re.findall(r"\]\(([^)]+)\)", template.read_text(encoding="utf-8"))
    assert links and all((template.parent / link).exists() for link in links)


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{page.name}" for page in DOCS.glob("*.md"))]


@pytest.mark.parametrize("name", [name for name in PAGES if name != "docs/log.md"])
def test_files_that_the_text_names_exist(repo_root: Path, name: str) -> None:
    """Links, and paths in backticks: from the repository, or of modules from the package. The log keeps old names."""
    page = repo_root / name
    text = page.read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text))
    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []
    paths = set(re.findall(r"`((?:rwkv_sweep|tests|conf|docs|benchmarks)/[\w./]+)`", text))
    paths |= set(re.findall(r"`([\w./]+/\w+\.py)`", text))
    bases = (repo_root, repo_root / "rwkv_sweep")
    assert [path for path in sorted(paths) if not any((base / path).exists() for base in bases)] == []


def test_readme_names_every_command(repo_root: Path) -> None:
    text = (repo_root / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"Its other commands are ([^;]+);", text)
    assert re.findall(r"`(\w+)`", sentence) == list(VERBS)


def test_design_lists_the_packages_in_the_order_of_their_imports(repo_root: Path) -> None:
    text = (repo_root / "docs" / "design.md").read_text(encoding="utf-8")
    table, paragraphs = text.split("\n## Packages\n")[1].split("\n## Decisions\n")[0].split("\n\n**", 1)
    assert re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE) == ORDER
    for package in ORDER:
        subpackages = {path.parent.name for path in (repo_root / "rwkv_sweep" / package).glob("*/**/__init__.py")}
        if package in ("report", "models"):
            described = paragraphs.split(f"{package}/`**")[1].split("\n\n")[0]
        else:
            (described,) = re.findall(rf"^\| `{package}/` \|(.*)$", table, re.MULTILINE)
        assert subpackages - {"common"} <= set(re.findall(r"(\w+)/`", described)), package


def test_type_checkers_find_the_types(tmp_path: Path) -> None:
    """PEP 561: without `py.typed`, mypy treats what is imported from an installed package as untyped."""
    script = tmp_path / "user.py"
    script.write_text(
        "import importlib.resources\nprint((importlib.resources.files('rwkv_sweep') / 'py.typed').is_file())\n"
    )
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert shown == "True\n"
