"""MLflow runs, written from a thread of their own: training neither waits for them nor fails with them."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.tracking_metrics import clean_params, clean_tags, safe_key

log = logging.getLogger(__name__)

QUEUED_RESULTS = 2000  # results kept waiting for a slow server before new ones are dropped
METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100  # limits of the MLflow API
CONNECT_ATTEMPTS = 3
SECRET_VARIABLES = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "DATABRICKS_TOKEN")


class TrackingSettings(BaseModel):
    """Where runs are recorded. Credentials belong in MLflow's own environment variables, never here."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool = Field(default=True, description="record the run in MLflow")
    uri: str | None = Field(
        default=None, description="MLflow tracking URI; null: $MLFLOW_TRACKING_URI, or SQLite beside the runs"
    )
    experiment: str | None = Field(default=None, min_length=1, description="MLflow experiment; null: the task's name")
    run_name: str | None = Field(default=None, min_length=1, description="name of the run; null: that of its folder")
    tags: dict[str, str] = Field(default_factory=dict, description="tags set on the run")
    flush_s: float = Field(default=30.0, ge=0, description="longest wait at the end of a run for what is still unsent")

    @field_validator("uri")
    @classmethod
    def _no_credentials(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password is not None:
            raise ValueError(
                "carries a password, which the saved configuration would keep; accepted is a URI without "
                "one, with MLFLOW_TRACKING_PASSWORD, or all of it as MLFLOW_TRACKING_URI, in the environment"
            )
        return uri

    def resolved_uri(self, root: Path) -> str:
        """The URI in effect; `root` is the folder that holds the run folders."""
        local = f"sqlite:///{Path(root).resolve()}/mlflow.db"
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI") or local


class MlflowWriter:
    """Queues what is to be recorded and writes it in the background; only `close` waits.

    One writer serves several MLflow runs, told apart by a key (a trial). Their ids are kept in the JSON
    file `ids`, so a resumed run goes on in the same MLflow run. Importing MLflow and creating the database,
    seconds both, happen in the thread. The first failure is told to `warn` as one sentence; after that the
    writer keeps trying in silence and `close` says what was lost.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        experiment: str,
        root: Path,
        ids: Path,
        warn: Callable[[str], None] = log.warning,
        known: Mapping[str, str] | None = None,
    ) -> None:
        self._settings, self._experiment = settings, settings.experiment or experiment
        self._root, self._ids_file, self._warn = Path(root), Path(ids), warn
        self.uri = settings.resolved_uri(self._root)
        # The file is newer than what a caller may have saved elsewhere.
        self.ids: dict[str, str] = {**(known or {}), **self._read_ids()}
        self._jobs: queue.Queue[tuple[str, str, tuple] | None] = queue.Queue()
        self._client: Any = None
        self._failed = self._dropped = 0
        self._first_failure = ""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mlflow-writer", daemon=True)
        self._thread.start()

    def start(self, key: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the MLflow run of `key`: the one it had before, or a new one with these nested parameters."""
        self._put("start", key, name, clean_params(params), clean_tags({**self._settings.tags, **tags}))

    def metrics(self, key: str, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step; dropped, and counted, while too many are waiting."""
        if self._jobs.qsize() >= QUEUED_RESULTS:
            self._dropped += 1
        elif values:
            self._put("metrics", key, dict(values), int(step), int(time.time() * 1000))

    def tags(self, key: str, tags: Mapping[str, str]) -> None:
        self._put("tags", key, clean_tags(tags))

    def artifact(self, key: str, path: Path) -> None:
        """Attach a file; one that does not exist when its turn comes is left out."""
        self._put("artifact", key, Path(path))

    def end(self, key: str, status: str) -> None:
        """Close an MLflow run: FINISHED, FAILED or KILLED."""
        self._put("end", key, status)

    def close(self, timeout_s: float | None = None) -> str | None:
        """Write what is queued, within `timeout_s` (default `flush_s`); a sentence if any was lost."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._thread.join(self._settings.flush_s if timeout_s is None else timeout_s)
        late = self._jobs.qsize() if self._thread.is_alive() else 0
        if late or self._thread.is_alive():
            return f"MLflow at {self._shown_uri()} was too slow; up to {late + 1} entries were not recorded"
        if self._failed or self._dropped:
            lost = self._failed + self._dropped
            reason = self._first_failure or "too many were waiting"
            return f"MLflow at {self._shown_uri()} did not record {lost} entries: {reason}"
        return None

    def _put(self, kind: str, key: str, *arguments: Any) -> None:
        if not self._closed:
            self._jobs.put((kind, key, arguments))

    # -- in the thread ---

    def _run(self) -> None:
        self._connect()
        while (job := self._jobs.get()) is not None:
            kind, key, arguments = job
            try:
                if self._client is None:
                    self._failed += 1
                else:
                    getattr(self, f"_do_{kind}")(key, *arguments)
            except Exception as error:  # noqa: BLE001  tracking must never end a run
                self._failed += 1
                self._complain(error)

    def _connect(self) -> None:
        # Read when MLflow is imported: it would report usage over the network and log to the terminal.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        for attempt in range(CONNECT_ATTEMPTS):
            try:
                from mlflow.tracking import MlflowClient

                self._root.mkdir(parents=True, exist_ok=True)
                client = MlflowClient(self.uri)
                self._experiment_id = self._find_experiment(client)
                self._client = client
                return
            except Exception as error:  # noqa: BLE001
                failure = error
                # Two runs that create one database at once disturb each other; the later one tries again.
                if attempt + 1 < CONNECT_ATTEMPTS and not self._closed:
                    time.sleep(0.5 * (attempt + 1))
        self._complain(failure)

    def _find_experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self._experiment)
        if found is not None:
            return found.experiment_id
        # A local database would otherwise put artifacts below whatever folder the command was started in.
        local = self.uri.startswith("sqlite:")
        return client.create_experiment(
            self._experiment,
            artifact_location=(self._root.resolve() / "mlartifacts").as_uri() if local else None,
        )

    def _do_start(self, key: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        if key in self.ids:
            try:
                self._client.update_run(self.ids[key], status="RUNNING")
                return
            except MlflowException:
                log.info("MLflow run %s is not at %s; a new one is begun", self.ids[key], self._shown_uri())
        run = self._client.create_run(self._experiment_id, run_name=name, tags=tags)
        self.ids = {**self.ids, key: run.info.run_id}  # replaced whole: another thread may be reading it
        self._write_ids()
        items = [Param(k, v) for k, v in params.items()]
        for i in range(0, len(items), PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=items[i : i + PARAMS_PER_BATCH])

    def _do_metrics(self, key: str, values: dict[str, float], step: int, time_ms: int) -> None:
        from mlflow.entities import Metric

        items = [Metric(safe_key(k), float(v), time_ms, step) for k, v in values.items()]
        for i in range(0, len(items), METRICS_PER_BATCH):
            self._client.log_batch(self.ids[key], metrics=items[i : i + METRICS_PER_BATCH])

    def _do_tags(self, key: str, tags: dict[str, str]) -> None:
        for name, value in tags.items():
            self._client.set_tag(self.ids[key], name, value)

    def _do_artifact(self, key: str, path: Path) -> None:
        if path.is_file():
            self._client.log_artifact(self.ids[key], str(path))

    def _do_end(self, key: str, status: str) -> None:
        self._client.set_terminated(self.ids[key], status)

    def _complain(self, error: BaseException) -> None:
        if self._first_failure:
            return
        lines = str(error).strip().splitlines() or [""]
        self._first_failure = self._redact(f"{type(error).__name__}: {lines[0][:200]}".rstrip(": "))
        self._warn(
            f"tracking.uri: MLflow at {self._shown_uri()} cannot be written ({self._first_failure}); "
            "the run goes on without it"
        )

    # -- what is shown and kept ---

    def _shown_uri(self) -> str:
        return self._redact(self.uri)

    def _redact(self, text: str) -> str:
        """`text` without passwords and tokens."""
        for value in filter(None, (os.environ.get(name) for name in SECRET_VARIABLES)):
            text = text.replace(value, "***")
        return re.sub(r"(?<=://)[^/@\s]*@", "***@", text)

    def _read_ids(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._ids_file.read_text())["runs"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_ids(self) -> None:
        content = {"uri": self._shown_uri(), "experiment": self._experiment, "runs": self.ids}
        partial = self._ids_file.with_suffix(".partial")
        self._ids_file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(partial, self._ids_file)
