"""The Tune callback that hands results to MLflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback

from pipeline.tracking import MlflowWriter, TrackingSettings
from pipeline.tracking_metrics import finding_metrics, result_metrics, round_metrics

log = logging.getLogger(__name__)

IDS_FILE = "mlflow.json"  # in the run folder: which MLflow run this is
ONE_TRIAL = "run"


class MLflowCallback(LoggerCallback):
    """Records results, and each new robot evaluation with its gap, at the gradient updates of the policy.

    It replaces Ray's own MLflow callback, which writes every value of a result on its own from within the
    Tune loop (3 s a result), ends the run on a name MLflow refuses, and opens a new MLflow run at each
    resume.

    `run_dir` is the run's folder, `root` the folder of all runs, where the default database lives. With
    `per_trial` every trial gets its own MLflow run, as a sweep needs; without, all goes into one.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        *,
        run_dir: Path,
        root: Path,
        task: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        per_trial: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.run_dir, self.root, self.task = settings, Path(run_dir), Path(root), task
        self.params, self.tags, self.per_trial = dict(params), dict(tags or {}), per_trial
        self.warn = warn
        self._writer: MlflowWriter | None = None
        self._started: set[str] = set()
        self._rounds: dict[str, Any] = {}  # version of the last robot evaluation recorded, by key
        self._findings: dict[str, int] = {}  # fits of recordings that are recorded, by key
        self._ids: dict[str, str] = {}  # MLflow run ids from a restored experiment

    def start(self) -> None:
        """Begin importing MLflow and creating its database now, rather than with the first trial."""
        if self._writer is None and self.settings.enabled:
            ids, warn = self.run_dir / IDS_FILE, self.warn or log.warning
            self._writer = MlflowWriter(self.settings, self.task, self.root, ids, warn, known=self._ids)

    def finish(
        self,
        artifacts: Sequence[Path] = (),
        status: str = "FINISHED",
        by_trial: Mapping[str, Sequence[Path]] | None = None,
    ) -> str | None:
        """Attach the artifacts, close the MLflow runs and wait up to `flush_s`; a sentence if any was lost.

        Of a sweep, every run gets `artifacts` and what `by_trial` has under its trial's id.
        """
        if self._writer is None:
            return None
        for key in self._started:
            for path in (*artifacts, *(by_trial or {}).get(key, ())):
                self._writer.artifact(key, path)
            self._writer.end(key, status)
        problem = self._writer.close()
        self._ids, self._writer = dict(self._writer.ids), None
        self._started.clear()
        return problem

    def log_trial_start(self, trial: Any) -> None:
        self._open(trial)

    def log_trial_result(self, iteration: int, trial: Any, result: dict) -> None:
        key = self._open(trial)
        if self._writer is None or key is None:
            return
        step = (result.get("progress") or {}).get("updates", iteration)
        self._writer.metrics(key, result_metrics(result), step)
        findings = (result.get("identification") or {}).get("findings") or []
        for finding in findings[self._findings.get(key, 0) :]:
            self._writer.metrics(key, finding_metrics(finding), finding["at_updates"])
        self._findings[key] = len(findings)
        real = result.get("real") or {}
        version = real.get("version")
        if version is not None and self._rounds.get(key) != version:
            self._rounds[key] = version
            self._writer.metrics(key, round_metrics(result), real.get("updates", step))
            if verdict := (result.get("gap") or {}).get("verdict"):
                self._writer.tags(key, {"gap.verdict": verdict})

    def get_state(self) -> dict[str, Any]:
        """Saved by Tune with the experiment."""
        ids = dict(self._writer.ids if self._writer else self._ids)
        return {"ids": ids, "rounds": dict(self._rounds), "findings": dict(self._findings)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._ids, self._rounds = dict(state["ids"]), dict(state["rounds"])
        self._findings = dict(state.get("findings", {}))

    def __getstate__(self) -> dict[str, Any]:
        """Without the thread and the terminal: Tune pickles its callbacks."""
        state = {**self.__dict__, "_writer": None, "_started": set(), "warn": None}
        return {**state, "_ids": self.get_state()["ids"]}

    def _open(self, trial: Any) -> str | None:
        """The key of the trial's MLflow run, opened if it is not."""
        self.start()
        if self._writer is None:
            return None
        key = str(trial.trial_id) if self.per_trial else ONE_TRIAL
        if key not in self._started:
            self._started.add(key)
            name = self.settings.run_name or self.run_dir.name
            tags = {**self.tags, "task": self.task, "trial": str(trial.trial_id)}
            if self.per_trial:
                params = {**self.params, **(getattr(trial, "evaluated_params", None) or {})}
                self._writer.start(key, f"{name} {key}", params, tags)
            else:
                self._writer.start(key, name, self.params, tags)
        return key
