"""Tasks of `mteb` by name, and their data; the package is imported when it is first needed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rwkv_sweep.errors import UserError, first_line


def require_mteb(asked: str) -> Any:
    """The package `mteb`.

    Args:
        asked: what needs it; for the message.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        import mteb
    except ImportError as error:
        raise UserError(
            f"{asked} needs mteb, which cannot be imported ({error}): valid is pip install 'mteb>=2.20'"
        ) from error
    return mteb


def task_named(name: str, key: str = "task") -> Any:
    """The task of this name.

    Args:
        key: that names it; for the message.

    Raises:
        UserError: `mteb` has none.
    """
    import mteb

    try:
        return mteb.get_task(name)
    except (KeyError, ValueError) as error:
        raise UserError(f"{key}={name} is none of mteb's: {first_line(error)}") from error


def load_task(task: Any) -> None:
    """Load a task's data.

    Raises:
        UserError: it cannot be had; the line says what to put where.
    """
    try:
        task.load_data()
    except (OSError, ValueError, KeyError) as error:  # those of `datasets` and the hub's client are among them
        where = task.metadata.dataset
        repository, revision = where.get("path"), where.get("revision")
        raise UserError(
            f"task={task.metadata.name}: its data cannot be had ({first_line(error)}); offline, run `hf download "
            f"--repo-type dataset {repository} --revision {revision}` where there is a network, and set HF_HOME to a "
            "copy of that cache"
        ) from error


@functools.cache
def loaded_task(name: str) -> Any:
    """The task of this name with its data, which are read once in a process.

    Raises:
        UserError: as `require_mteb`, `task_named` and `load_task`.
    """
    require_mteb("dataset.tasks")
    task = task_named(name, "dataset.tasks")
    load_task(task)
    return task


def check_tasks(names: Sequence[str]) -> None:
    """Raises UserError where a task is named twice, is not known, or has no data here."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"dataset.tasks=[{','.join(names)}] names {name} twice: valid is each task once")
        loaded_task(name)


def main_score(model: Any, task: Any, batch_size: int) -> float:
    """What `mteb.evaluate` gives a model on a task with its data; nothing is cached or shown."""
    import mteb

    result = mteb.evaluate(
        model,
        task,
        cache=None,
        co2_tracker=False,
        encode_kwargs={"batch_size": batch_size},
        show_progress_bar=False,
    )
    return float(result.task_results[0].get_score())
