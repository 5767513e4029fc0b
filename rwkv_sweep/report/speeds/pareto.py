"""What no other run is shown to beat, where several figures count and each may carry noise."""

from __future__ import annotations

from collections.abc import Callable

Sign = Callable[[int, int], int]
"""Of runs i and j: 1 where i is shown to be better, -1 where it is shown to be worse, else 0: a tie, or noise."""


def unbeaten(count: int, *figures: Sign) -> list[int]:
    """Indices of the runs that none beats: is shown to be better in one figure and not shown to be worse in another.

    Of two runs that noise leaves indistinguishable in every figure, both stay.
    """

    def beats(i: int, j: int) -> bool:
        signs = [figure(i, j) for figure in figures]
        return max(signs) > 0 and min(signs) >= 0

    left = [j for j in range(count) if not any(beats(i, j) for i in range(count) if i != j)]
    # Noise of different size could make runs beat each other in a circle: then none is ahead.
    return left or list(range(count))


def exact(i: float | None, j: float | None) -> int:
    """The sign for two figures without noise, less is better; 0 where either is not known."""
    return 0 if i is None or j is None or i == j else 1 if i < j else -1
