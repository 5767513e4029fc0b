"""How well two views of a sentence, of which words were dropped, can be recognized as views of the same one.

Shapes: N sentences, D dimensions, R dimensions of their span. `first_ND` and `second_ND` are the vectors of the two
views. All in float64.
"""

from __future__ import annotations

import numpy as np

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.representation.entropy import centred_unit_rows, spectral_entropy

TEMPERATURE = 0.1
WITHIN_RIDGE = 1e-4
"""Added to the scatter within sentences, so that it can be inverted; of vectors at length 1."""
PERMUTATIONS = 10


def normalized_views(first_ND: np.ndarray, second_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both views less the mean of all, each vector at length 1: what the functions below take."""
    rows = centred_unit_rows(np.concatenate([first_ND, second_ND]))
    return rows[: len(first_ND)], rows[len(first_ND) :]


def infonce(first_ND: np.ndarray, second_ND: np.ndarray) -> float:
    """1 - CE / log N, where CE is the cross-entropy of finding each first view's own second view among all N by their
    products at temperature 0.1 (van den Oord et al. 2018, arXiv 1807.03748): 1 where all are found, 0 by chance.

    Raises:
        UndefinedError: fewer than two sentences.
    """
    count = _count(first_ND)
    logits_NN = first_ND @ second_ND.T / TEMPERATURE
    largest_N = logits_NN.max(axis=1)
    log_sum_N = largest_N + np.log(np.exp(logits_NN - largest_N[:, None]).sum(axis=1))
    return float(1 - (log_sum_N - np.diagonal(logits_NN)).mean() / np.log(count))


def dime(first_ND: np.ndarray, second_ND: np.ndarray, seed: int) -> float:
    """Difference of matrix entropies (Skean et al. 2023, arXiv 2301.08164), in nats: joint entropy of the views when
    sentences are matched at random (mean of ten permutations) less that when each is matched with its own.

    The joint entropy is that of the spectrum of the entrywise product of the two kernels Z Z^T.

    Raises:
        UndefinedError: fewer than two sentences, or all vectors the same.
    """
    count, random = _count(first_ND), np.random.default_rng(seed)
    first_NN, second_NN = first_ND @ first_ND.T, second_ND @ second_ND.T
    orders = [random.permutation(count) for _ in range(PERMUTATIONS)]
    shuffled = [_joint_entropy(first_NN, second_NN[np.ix_(order, order)]) for order in orders]
    return float(np.mean(shuffled) - _joint_entropy(first_NN, second_NN))


def lidar(first_ND: np.ndarray, second_ND: np.ndarray) -> float:
    """Entropy, in nats, of the normalized spectrum of S_w^-1/2 S_b S_w^-1/2 (Thilak et al. 2023, arXiv 2312.04000).

    S_b is the scatter of the sentences' mean vectors about the mean of all, S_w that of the views about their
    sentence's mean, plus 1e-4 I. The paper's LiDAR is the exponential of this.

    Raises:
        UndefinedError: fewer than two sentences, or all vectors the same.
    """
    count = _count(first_ND)
    means_ND = (first_ND + second_ND) / 2
    means_ND = means_ND - means_ND.mean(axis=0)
    halves_ND = (first_ND - second_ND) / 2  # the first view less the sentence's mean; the second is its negative
    if first_ND.shape[1] > 2 * count:
        # Outside the span of these 2 N vectors the scatter between sentences is zero.
        basis_DR = np.linalg.qr(np.concatenate([means_ND, halves_ND]).T)[0]
        means_ND, halves_ND = means_ND @ basis_DR, halves_ND @ basis_DR
    between_DD = means_ND.T @ means_ND / count
    within_DD = halves_ND.T @ halves_ND / count + WITHIN_RIDGE * np.eye(means_ND.shape[1])
    # S_w = L L^T: the spectrum of L^-1 S_b L^-T is that of S_w^-1/2 S_b S_w^-1/2.
    factor_DD = np.linalg.cholesky(within_DD)
    half_solved_DD = np.linalg.solve(factor_DD, between_DD)
    return spectral_entropy(np.clip(np.linalg.eigvalsh(np.linalg.solve(factor_DD, half_solved_DD.T)), 0.0, None))


def _joint_entropy(first_NN: np.ndarray, second_NN: np.ndarray) -> float:
    product_NN = first_NN * second_NN
    trace = np.trace(product_NN)
    if trace <= 0:
        raise UndefinedError("all vectors of a view are the same: the views have no joint entropy")
    return spectral_entropy(np.clip(np.linalg.eigvalsh(product_NN / trace), 0.0, None))


def _count(first_ND: np.ndarray) -> int:
    if len(first_ND) < 2:
        raise UndefinedError("views of a single sentence cannot be mixed up")
    return len(first_ND)
