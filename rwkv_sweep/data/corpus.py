"""The texts in which `pooling=idf` counts tokens: a split of the dataset, a text file, or the scored sentences; and the
sentences of a split that are not scored, for other fits.

Shapes: S sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwkv_sweep.config.fitting_splits import calibration_split
from rwkv_sweep.config.path_values import existing_file, shown_path
from rwkv_sweep.config.schema import DatasetConfig, PoolingConfig, PrecisionConfig
from rwkv_sweep.data.readers import split_suffix
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UserError

TRANSDUCTIVE = "transductive"
"""Recorded of what was fitted on the very sentences that are scored."""


@dataclass(frozen=True)
class Corpus:
    """Texts that something is fitted on.

    Attributes:
        name: a split, the path of a file, or `transductive`.
        texts: all of them, in order.
    """

    name: str
    texts: Texts

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the texts, in order."""
        digest = hashlib.sha256()
        self.texts.update(digest)
        return digest.hexdigest()

    def record(self, splits: Sequence[PairSplit]) -> tuple[dict[str, str], dict[str, str]]:
        """Parameters and tags of a run that scores `splits`: what the weights come from, by name and by content."""
        scored = Texts.joined([split.sentences for split in splits])
        shared, count = int(self.texts.is_in(scored).sum()), len(self.texts)
        tags = {"idf_corpus": self.name + f": {count} texts, {shared} of them scored too"}
        tags["idf_fingerprint"] = self.fingerprint
        # A split or a file of nothing but scored sentences is no other corpus than these.
        return {"pooling.fit": TRANSDUCTIVE} if shared == count else {}, tags


def load_corpus(pooling: PoolingConfig, dataset: DatasetConfig) -> Corpus | None:
    """The texts that `pooling.corpus` or `pooling.fit` names; None where neither is set.

    Raises:
        UserError: both are set; a split or file that cannot be read, or a file without a text.
    """
    if pooling.fit is not None and pooling.corpus is not None:
        raise UserError(
            f"pooling.fit={pooling.fit} pooling.corpus={pooling.corpus}: valid is one of the two, a split of the "
            "dataset or a text file"
        )
    if pooling.corpus is not None:
        return Corpus(pooling.corpus, _read(pooling.corpus))
    if pooling.fit is not None:
        return Corpus(pooling.fit, load_fit_split(dataset, pooling.fit).sentences)
    return None


def fitting_corpus(key: str, spec: str, dataset: DatasetConfig, scored: Sequence[PairSplit]) -> Corpus:
    """The sentences of a split of the dataset that are not scored.

    Args:
        key: that names the split, for messages, such as `precision.calibration_fit`.
        spec: the split.
        scored: the splits that are scored.

    Raises:
        UserError: the split cannot be read, or holds scored sentences alone.
    """
    sentences = load_fit_split(dataset, spec).sentences
    seen_S = sentences.is_in(Texts.joined([split.sentences for split in scored]))
    if seen_S.all():
        raise UserError(
            f"{key}={spec} has no sentence that is not scored too, by dataset.splits=[{','.join(dataset.splits)}]: "
            "valid is another split"
        )
    left_out = f" without the {seen_S.sum()} sentences that are scored too" if seen_S.any() else ""
    return Corpus(spec + left_out, sentences.take(np.flatnonzero(~seen_S)))


def calibration_corpus(
    precision: PrecisionConfig, dataset: DatasetConfig, scored: Sequence[PairSplit]
) -> Corpus | None:
    """What `precision.calibration` reads; None where it needs no data.

    Raises:
        UserError: see `fitting_corpus`; or no split is given.
    """
    split = calibration_split(precision, dataset)
    return None if split is None else fitting_corpus("precision.calibration_fit", split, dataset, scored)


def scored_corpus(splits: Sequence[PairSplit]) -> Corpus:
    """The sentences that are scored: what the weights of a run come from that names nothing else."""
    return Corpus(TRANSDUCTIVE, Texts.joined([split.sentences for split in splits]))


def _read(path: str) -> Texts:
    return Texts.of(_lines(path))


def _lines(path: str) -> Iterator[str]:
    """The lines of a file that are not blank, at least one."""
    where = f"pooling.corpus={shown_path(path)}"
    if split_suffix(Path(path))[1]:
        raise UserError(f"{where} is a file of records: valid is a text file with one text a line, such as corpus.txt")
    source = existing_file("pooling.corpus", path, "a text file with one text a line")
    number, texts = 0, 0
    try:
        with source.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    texts += 1
                    yield text
    except UnicodeDecodeError as error:
        raise UserError(f"{where}, line {number}, is not UTF-8: valid is a UTF-8 text file") from error
    except OSError as error:
        raise UserError(
            f"{where} cannot be read ({error.strerror}): valid is a text file with one text a line"
        ) from error
    if not texts:
        raise UserError(f"{where} holds no text: valid is a text file with one text a line")
