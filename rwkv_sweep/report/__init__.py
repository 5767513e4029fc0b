"""What a sweep found, for people: a table, figures and the answer to its research question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.config.schema import REPORTS, require_one_of
from rwkv_sweep.records.results import Result
from rwkv_sweep.records.sweep_folder import result_folders
from rwkv_sweep.report.common.statements import Records

__all__ = ["write_report"]


def write_report(kind: str, results: Sequence[Result], root: Path) -> list[Path]:
    """Write report.md, table.csv and the figures (SVG and PNG) into `root/report`; return their paths.

    A sweep with failed runs, or without some of the measurements, gets a report that states it; a figure with nothing
    to show is left out.

    Raises:
        UserError: `kind` is not a report there is.
    """
    require_one_of("report", kind, REPORTS)
    # Imported here: nothing but a finished sweep pays for Altair.
    if kind == "quantization":
        from rwkv_sweep.report.quantization.report import write_quantization_report

        return write_quantization_report(results, root / "report")
    if kind == "paper":
        from rwkv_sweep.report.study.report import write_paper_report

        return write_paper_report(results, root / "report")
    if kind == "generations":
        from rwkv_sweep.report.generations.report import write_generations_report

        # The folders hold the scores, by which runs are compared pair by pair.
        return write_generations_report(Records(results, result_folders(root)), root / "report")
    from rwkv_sweep.report.aggregation.report import write_aggregation_report

    return write_aggregation_report(results, root / "report", result_folders(root))
