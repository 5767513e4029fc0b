"""What is done to sentence vectors after aggregation: fitted on some sentences and applied to any, or a trained head.

Shapes: S sentences, D dimensions, R directions. All in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rwkv_sweep.config.schema import POSTPROCESSES, AggregationConfig, PostprocessConfig, require_one_of
from rwkv_sweep.embedding.pooling import STATE, VALUES, source_of
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.models.common.task_heads import TaskHead

HEAD = "head"
"""The one post-processing that nothing is fitted for: a trained network, which takes each vector alone."""

RANK_TOLERANCE = 1e-10
"""Directions whose variance is below this share of the largest are taken for rounding. That of fp32 vectors is about
1e-14 of a variance, that of the eigenvalues of a float64 matrix about 1e-13 of the largest."""

WHITENED_SHARE = 0.5
"""Whitening keeps at most this many directions per sentence fitted on; see `fit`."""


@dataclass(frozen=True)
class Postprocess:
    """A fitted transform, or a trained one.

    Attributes:
        mean_D: subtracted first; None leaves the vectors as they are.
        removed_RD: orthonormal directions that are then taken out.
        whitening_DR: matrix that the rest is then multiplied by.
        head: the task head of an EmbeddingRWKV, in place of all that.
    """

    mean_D: np.ndarray | None = None
    removed_RD: np.ndarray | None = None
    whitening_DR: np.ndarray | None = None
    head: TaskHead | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """What was fitted, by the names of the attributes."""
        return {name: array for name, array in vars(self).items() if isinstance(array, np.ndarray)}

    def apply(self, vectors_SD: np.ndarray) -> np.ndarray:
        """[S, D] to [S, D], or [S, R] if whitened; float64."""
        vectors_SD = np.asarray(vectors_SD, dtype=np.float64)
        if self.mean_D is not None:
            vectors_SD = vectors_SD - self.mean_D
        if self.removed_RD is not None:
            vectors_SD = vectors_SD - vectors_SD @ self.removed_RD.T @ self.removed_RD
        if self.whitening_DR is not None:
            vectors_SD = vectors_SD @ self.whitening_DR
        return vectors_SD if self.head is None else self.head.apply(vectors_SD)


def needs_fit(config: PostprocessConfig) -> bool:
    """Whether it is fitted on sentences."""
    return config.name not in ("none", HEAD)


def unfitted(config: PostprocessConfig, heads: Mapping[str, TaskHead]) -> Postprocess | None:
    """What is not fitted: the task head that `config` names; None for no post-processing at all.

    Args:
        heads: of the model; `check_postprocess` has seen that the head is among them.
    """
    return Postprocess(head=heads[str(config.head)]) if config.name == HEAD else None


def check_postprocess(
    config: PostprocessConfig, pooling: str, aggregation: AggregationConfig, layers: Sequence[int], shape: Shape
) -> None:
    """Check that the model has the task head that is asked for, and that the head takes such vectors.

    Raises:
        UserError: it has not, or does not.
    """
    if config.name != HEAD:
        return
    if not shape.task_heads:
        raise UserError(
            "postprocess=head with a model that has no task heads: valid is the checkpoint of an EmbeddingRWKV, with "
            "model=embedding_rwkv or model=local, or another postprocess"
        )
    if config.head not in shape.task_heads:
        raise UserError(
            f"postprocess.head={config.head} is not in the model's checkpoint: valid are {', '.join(shape.task_heads)}"
        )
    if config.fit is not None:
        raise UserError(f"postprocess.fit={config.fit} with postprocess=head, which was trained: valid is null")
    if pooling == STATE or source_of(pooling) == VALUES:
        asked = "pooling=state" if pooling == STATE else "pooling.source=values"
        raise UserError(
            f"{asked} with postprocess=head, which takes vectors of {shape.hidden_size} numbers: valid are "
            "poolings of tokens, such as eos"
        )
    if aggregation.name == "concat" and len(layers) > 1:
        raise UserError(
            f"aggregation=concat with postprocess=head, which takes vectors of {shape.hidden_size} numbers: valid are "
            "none, mean, max, weighted and learned"
        )


def fit(name: str, vectors_SD: np.ndarray, components: int = 2) -> Postprocess:
    """Means and directions of the sentences `vectors_SD`, for one of `POSTPROCESSES` but `head`.

    `center` subtracts the mean. `abtt`, all-but-the-top (Mu and Viswanath 2018, arXiv 1702.01417, algorithm 1), also
    takes out the `components` directions of largest variance. `whiten` (Su et al. 2021, arXiv 2103.15316, section 3)
    turns the centred vectors to the eigenvectors of their covariance and scales each to variance 1: all of them that
    have a variance (`RANK_TOLERANCE`), as long as there are twice as many sentences as dimensions.

    With fewer sentences only the S / 2 directions of largest variance are kept. Of the smaller ones so few sentences
    say nothing, and with S - 1 directions whitening makes any two of the fitted sentences exactly equally far apart,
    whatever they say. Measured with 12 blocks of 128 channels concatenated (1536), byte-level model, MRPC validation,
    816 sentences: Spearman .425 with S/4 directions, .395 with S/2, .372 with 3/4 S, .029 with all. With one block and
    S >= 2 D the limit changes nothing.

    Raises:
        UserError: more components than the vectors have directions, or vectors that are all the same.
    """
    return VectorStatistics(vectors_SD).postprocess(name, components)


class VectorStatistics:
    """The sentences that post-processings are fitted on; what several of them need is computed once.

    Attributes:
        vectors_SD: float64.
    """

    def __init__(self, vectors_SD: np.ndarray) -> None:
        self.vectors_SD = np.asarray(vectors_SD, dtype=np.float64)

    @cached_property
    def mean_D(self) -> np.ndarray:
        """Their mean."""
        mean_D: np.ndarray = self.vectors_SD.mean(0)
        return mean_D

    @cached_property
    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances [R], the largest first, and their directions [R, D]."""
        return _principal(self.vectors_SD - self.mean_D)

    def postprocess(self, name: str, components: int = 2) -> Postprocess:
        """As `fit`."""
        require_one_of("postprocess.name", name, POSTPROCESSES)
        if name == "none":
            return Postprocess()
        if name == "center":
            return Postprocess(self.mean_D)
        variance_R, direction_RD = self.principal
        sentences = len(self.vectors_SD)
        if name == "abtt":
            if components >= len(variance_R):
                raise UserError(
                    f"postprocess.components={components} is too many: the {sentences} vectors fitted on have "
                    f"{len(variance_R)} directions, and at least one must be left"
                )
            return Postprocess(self.mean_D, direction_RD[:components])
        kept = min(len(variance_R), int(WHITENED_SHARE * sentences))
        if kept == 0:
            raise UserError(
                f"postprocess=whiten found no direction with a variance in the {sentences} vectors fitted on: valid "
                "are two sentences or more that are not all the same"
            )
        return Postprocess(self.mean_D, whitening_DR=direction_RD[:kept].T / np.sqrt(variance_R[:kept]))


def _principal(centred_SD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances [R], largest first, and their orthonormal directions [R, D], those without any variance left out.

    From the covariance [D, D], or where there are fewer sentences than dimensions from the products of the sentences
    [S, S], whose eigenvalues are the same but for zeros: the covariance of 24 concatenated layers of 2048 would take
    19 GB.
    """
    sentences, dims = centred_SD.shape
    if dims <= sentences:
        variance_R, vectors = np.linalg.eigh(centred_SD.T @ centred_SD / sentences)
        direction_RD = vectors.T
    else:
        variance_R, vectors = np.linalg.eigh(centred_SD @ centred_SD.T / sentences)
        direction_RD = vectors.T @ centred_SD
    kept = np.flatnonzero(variance_R > RANK_TOLERANCE * max(variance_R[-1], 0))[::-1]
    direction_RD = direction_RD[kept]
    return variance_R[kept], direction_RD / np.linalg.norm(direction_RD, axis=1, keepdims=True)
