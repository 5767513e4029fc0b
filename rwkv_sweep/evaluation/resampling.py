"""How intervals and p-values of a run are drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resampling:
    """The bootstrap of a run's figures.

    Attributes:
        bootstrap: resamples of an interval.
        seed: of the bootstrap.
        jobs: of the sweep; its comparisons are corrected together, so that many need smaller p-values.
    """

    bootstrap: int
    seed: int
    jobs: int = 1
