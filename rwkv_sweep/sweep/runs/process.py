"""What one process keeps from job to job, so that a further job need not load or read it again."""

from __future__ import annotations

from dataclasses import dataclass, field

from rwkv_sweep.embedding.fp32_reference import ResidentReference
from rwkv_sweep.hardware.gpu_lock import GpuChoice
from rwkv_sweep.models.resident_model import ResidentModel
from rwkv_sweep.profiling.kernels import CompiledKernels
from rwkv_sweep.profiling.split_tokens import TokenReader
from rwkv_sweep.sweep.runs.run_key import SplitFingerprints
from rwkv_sweep.tracking import Servers


@dataclass(frozen=True)
class Process:
    """Owner of all that outlives a job in its process.

    Attributes:
        gpus: which GPU the jobs take.
        model: the one that was loaded last.
        reference: its fp32 weights, where they were needed beside it.
        kernels: of a GPU that were compiled.
        tokens: of the split that was timed last.
        fingerprints: of the splits that were read.
        servers: that runs are tracked at.
    """

    gpus: GpuChoice = field(default_factory=GpuChoice)
    model: ResidentModel = field(default_factory=ResidentModel)
    reference: ResidentReference = field(default_factory=ResidentReference)
    kernels: CompiledKernels = field(default_factory=CompiledKernels)
    tokens: TokenReader = field(default_factory=TokenReader)
    fingerprints: SplitFingerprints = field(default_factory=SplitFingerprints)
    servers: Servers = field(default_factory=Servers)


THIS_PROCESS = Process()
"""Hydra calls the function for a job with its config alone, so that this one is found by its name."""
