"""The page of a sweep, written into its folder."""

from __future__ import annotations

from pathlib import Path

from rwkv_sweep.records.results import PAGE_FILE
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.page.data import page_data
from rwkv_sweep.report.page.html import SCRIPTS, page
from rwkv_sweep.utils.files import write_atomically


def write_page(root: Path, findings: Findings | None = None) -> Path:
    """Write `report.html` into the folder of a sweep (or of a single run) from its records; return its path.

    findings: of these records, where they are known already.

    Raises:
        UserError: the folder contains no sweep, or its record is damaged.
    """
    record = SweepRecord.load(root)
    findings = findings or find(record, sweep_results(root), result_folders(root))
    path = root / PAGE_FILE
    write_atomically(path, page(record.name, page_data(record, findings), SCRIPTS))
    return path
