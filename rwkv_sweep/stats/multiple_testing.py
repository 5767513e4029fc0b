"""Corrections for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence

ALPHA = 0.05


FINAL = "final"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down procedure, in the order given.

    The k-th smallest of m (k from 1) is multiplied by m - k + 1; none is less than one before it, none more than 1.
    Rejecting what is at most alpha keeps the chance of any false rejection at alpha, however the tests depend on each
    other (Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979).

    Raises:
        ValueError: a p-value that is not between 0 and 1.
    """
    bad = [p for p in p_values if not 0 <= p <= 1]
    if bad:
        raise ValueError(f"a p-value is between 0 and 1, not {bad[0]}")
    adjusted, least = [0.0] * len(p_values), 0.0
    for before, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - before) * p_values[index]))
        adjusted[index] = least
    return adjusted
