"""The sweeper: every combination of the values, as Hydra's own, with what is costly to change varying slowest."""

# No postponed annotations: dataclasses look for their module in sys.modules, where Hydra puts a plugin's too late.
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.rwkv_sweep_sweeper.composed_configs import ComposedConfigs

if TYPE_CHECKING:
    from rwkv_sweep.sweep.jobs import PlannedJobs

COSTLY = ("device", "model", "precision", "prompt", "dataset")
"""Groups whose change means another model in memory or another pass over the sentences; the costliest first."""


@dataclass
class ByModelSweeperConf:
    """`hydra/sweeper=by_model`; the keys are those of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.rwkv_sweep_sweeper.by_model.ByModelSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="by_model", node=ByModelSweeperConf, provider="rwkv_sweep_sweeper"
)


class ByModelSweeper(BasicSweeper):
    """Runs the jobs of Hydra's basic sweeper in an order that loads each model once.

    A callback may have checked and composed the jobs before and keep them in its `planned_jobs`: then those are
    run, and none is composed again. A program without such a callback gets the order alone.
    """

    takes_planned_jobs: ClassVar[bool] = True
    """Whether a job that the plan leaves out is not run; Hydra's own sweepers know of no plan."""

    planned: "PlannedJobs | None" = None

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """The overrides of each job, in batches.

        Hydra's sweeper lets the last key vary fastest, so that `layer=1,3 precision=fp16,int8` would load a model for
        each job. The jobs are the same here, and only their order and so their numbers differ.
        """
        return BasicSweeper.split_arguments(sorted(overrides, key=_place), max_batch_size)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        plans = [getattr(callback, "planned_jobs", None) for callback in hydra_context.callbacks.callbacks]
        self.planned = next((plan for plan in plans if plan is not None), None)
        if self.planned is not None:
            loader = ComposedConfigs(hydra_context.config_loader, config, self.planned.configs)
            hydra_context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the jobs; returns what each did, by batch."""
        assert self.config is not None and self.launcher is not None
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        returns: list[Sequence[JobReturn]] = []
        first = 0
        for batch in self._batches(arguments):
            self.validate_batch_is_legal(batch)
            results = self.launcher.launch(batch, initial_job_idx=first)
            for result in results:
                _ = result.return_value  # raises what ended the job
            first += len(batch)
            returns.append(results)
        return returns

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose each job on trial, for a launcher that composes it elsewhere; those of the plan have been."""
        if self.planned is None:
            super().validate_batch_is_legal(batch)

    def _batches(self, arguments: list[str]) -> list[list[list[str]]]:
        if self.planned is not None:
            return list(self.split_overrides_to_chunks(self.planned.overrides, self.max_batch_size))
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), self.max_batch_size)


def _place(override: Override) -> int:
    """Place of the key's group in `COSTLY`; behind them all where it costs nothing to change."""
    group: Any = override.get_key_element().lstrip("+~").split(".")[0].split("@")[0]
    return COSTLY.index(group) if group in COSTLY else len(COSTLY)
