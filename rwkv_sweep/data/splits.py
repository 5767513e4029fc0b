"""Splits of sentence pairs with labels: of the packaged file, of local files, or of the Hugging Face hub.

Local files are read by `rwkv_sweep.data.readers`, not by `datasets.load_dataset`: that writes a copy of every file into
the user's cache, guesses types (the sentence "NA" becomes a missing value) and cannot report which line is
wrong. Slices mean what they mean in the `datasets` library: its `ReadInstruction` parses them and turns them into
rows, except where a slice merely counts rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np

from rwkv_sweep.config.groups import STS_TASKS
from rwkv_sweep.config.path_values import existing, shown_path
from rwkv_sweep.config.schema import DatasetConfig, require_one_of
from rwkv_sweep.data.pairs import Pairs, checked_pairs, hub_records, require_columns
from rwkv_sweep.data.readers import VALID_SUFFIXES, split_suffix
from rwkv_sweep.data.split_files import files_of_split, records_of_split
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UserError
from rwkv_sweep.utils.package_paths import ASSETS

PACKAGED = {"embedded": ASSETS / "embedded", "embedded_hard": ASSETS / "embedded_hard.tsv"}
"""The pairs that come with the package: `dataset.id`, and the file or folder."""
_COUNTED = re.compile(r"(\w+(?:\.\w+)*)(?:\[(\d*):(\d*)\])?", re.ASCII)
"""A split or a slice of it, such as `train`, `train[:1000]` or `train[20:40]`."""


@dataclass(frozen=True)
class PairSplit:
    """P sentence pairs of one split.

    Attributes:
        name: the split as asked for, such as `train[:1000]`.
        sentences1, sentences2: the texts, as in the source; never blank. Columns, so that a million pairs are not two
            million Python objects.
        labels: float64 [P]; finite, and not all the same.
        fingerprint: SHA-256 of texts and labels; the same pairs have the same one, whatever file they came from.
    """

    name: str
    sentences1: Texts
    sentences2: Texts
    labels: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def binary(self) -> bool:
        """Whether the labels are 0 and 1, both present."""
        return np.unique(self.labels).tolist() == [0.0, 1.0]

    @property
    def sentences(self) -> Texts:
        """All 2P sentences: every first one, then every second one."""
        return self.sentences1 + self.sentences2

    def first_pairs(self, count: int) -> list[tuple[str, str]]:
        """The texts of the first `count` pairs (of all, where there are fewer)."""
        return list(zip(self.sentences1[:count], self.sentences2[:count], strict=True))


def load_splits(cfg: DatasetConfig, scored: bool = True) -> list[PairSplit]:
    """Read and check the pairs of every split of `cfg.splits`, in that order.

    scored: refuse a split whose labels are all the same. What is only fitted on may have such labels: published test
    splits often say -1 throughout.

    `cfg.path`, where set, wins over the hub. A folder holds one file per split (`train.tsv`, `validation.csv`;
    `dev` stands for `validation` where there is none) or its shards (`train-00000-of-00002.parquet`, ...). One file is
    one split, called `all` or by its own name.
    As in `datasets`, a slice that reaches beyond the last row ends there.

    Raises:
        UserError: a path, split, column or row that cannot be used, or a hub that cannot be reached.
    """
    check_dataset(cfg)
    root = _root(cfg)
    if root is None:
        hub = (checked_pairs(hub_records(cfg, spec), cfg, f"{cfg.id} {spec}") for spec in cfg.splits)
        return [_split(spec, pairs, scored) for spec, pairs in zip(cfg.splits, hub, strict=True)]

    @cache
    def read(name: str) -> Pairs:
        return checked_pairs(records_of_split(root, name, _columns(cfg)), cfg, _source(root, name))

    return [_split(spec, _sliced(spec, read), scored) for spec in cfg.splits]


def load_fit_split(cfg: DatasetConfig, spec: str) -> PairSplit:
    """The split of the same dataset that something is fitted on; errors as `load_splits`."""
    (split,) = load_splits(replace(cfg, splits=[spec]), scored=False)
    return split


def check_dataset(cfg: DatasetConfig) -> None:
    """The part of `load_splits`' checks that is cheap: slices, files and columns (of the first row), no hub.

    Raises:
        UserError: as `load_splits`.
    """
    root = _root(cfg)
    if repeated := [spec for spec in cfg.splits if cfg.splits.count(spec) > 1]:
        raise UserError(f"dataset.splits names {repeated[0]} more than once")
    for spec in cfg.splits:
        for name in _split_names(spec):
            if root is not None:
                for _, record in records_of_split(root, name, _columns(cfg)):
                    require_columns(record, cfg, _source(root, name))
                    break


def _columns(cfg: DatasetConfig) -> tuple[str, ...]:
    return (cfg.sentence1, cfg.sentence2, cfg.label)


def _source(root: Path, name: str) -> str:
    """Where a split is read from, for messages: its file, or the folder of its shards."""
    files = files_of_split(root, name)
    return str(files[0] if len(files) == 1 else files[0].parent)


def _root(cfg: DatasetConfig) -> Path | None:
    """The file or folder to read; None for the hub."""
    if cfg.path is not None and cfg.source == "assets":
        raise UserError(
            f"dataset.path={cfg.path} is not read with dataset={cfg.name}, whose pairs come with the package: valid is "
            f"dataset=pairs dataset.path={cfg.path}"
        )
    if cfg.path is not None:
        root = existing("dataset.path", cfg.path, "a file, or a folder with one file per split")
        if root.is_file() and not split_suffix(root)[1]:
            raise UserError(f"dataset.path={shown_path(cfg.path)} is of an unknown kind: valid are {VALID_SUFFIXES}")
        return root
    if cfg.source == "hub":
        if cfg.id is None:
            tasks = f", or with dataset=mteb a task, dataset.task={' '.join(STS_TASKS)}" if cfg.name == "mteb" else ""
            raise UserError(
                f"dataset.id is not set: dataset.source=hub needs the dataset's id, such as nyu-mll/glue{tasks}"
            )
        return None
    if cfg.source == "file":
        raise UserError(
            f"dataset.path is not set: dataset={cfg.name} needs a file, or a folder with one file per split"
        )
    require_one_of("dataset.id", cfg.id, tuple(PACKAGED))
    root = PACKAGED[str(cfg.id)]
    if not root.exists():
        raise UserError(f"the packaged pairs {root} are missing: install the project again, or set dataset.path")
    return root


def _split_names(spec: str) -> list[str]:
    """The splits that a slice such as `train[:10]+test` takes its rows from."""
    parts = _counted_parts(spec)
    if parts is None:
        parts = [(part.partition("[")[0], slice(None)) for part in str(_instruction(spec)).split("+")]
    return [name for name, _ in parts]


def _counted_parts(spec: str) -> list[tuple[str, slice]] | None:
    """Splits and rows, where `spec` counts rows from the first one, as most do; None where it is for `datasets`."""
    parts = []
    for part in spec.split("+"):
        match = _COUNTED.fullmatch(part.strip())
        if match is None:
            return None
        parts.append((match[1], slice(*(int(end) if end else None for end in match.groups()[1:]))))
    return parts


def _instruction(spec: str) -> Any:
    from datasets import ReadInstruction  # takes a second

    try:
        return ReadInstruction.from_spec(spec)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"dataset.splits={spec} is not a split ({error}): valid are a name and its slices, such as validation, "
            "train[:1000] or train[10%:20%]"
        ) from error


def _sliced(spec: str, read: Callable[[str], Pairs]) -> Pairs:
    pairs = {name: read(name) for name in _split_names(spec)}
    rows_of = {name: len(split_pairs.labels) for name, split_pairs in pairs.items()}
    parts = _counted_parts(spec)
    if parts is None:
        try:
            absolute = _instruction(spec).to_absolute(rows_of)
        except ValueError as error:  # a rounding that a short split does not allow
            raise UserError(f"dataset.splits={spec} cannot be cut: {error}") from error
        parts = [(part.splitname, slice(part.from_, part.to)) for part in absolute]
    return reduce(Pairs.joined, [pairs[name].rows(*rows.indices(rows_of[name])[:2]) for name, rows in parts])


def _split(spec: str, pairs: Pairs, scored: bool) -> PairSplit:
    if not len(pairs.labels):
        raise UserError(f"dataset.splits={spec} has no rows")
    if scored and (pairs.labels == pairs.labels[0]).all():
        raise UserError(
            f"dataset.splits={spec}: all {len(pairs.labels)} labels are {pairs.labels[0]:g}, so no correlation with "
            "them exists; valid is a split with at least two different labels"
        )
    digest = hashlib.sha256(pairs.labels.astype("<f8").tobytes())
    pairs.first.update(digest)
    pairs.second.update(digest)
    return PairSplit(spec, pairs.first, pairs.second, pairs.labels, digest.hexdigest())
