"""MLflow records what a run did, never holds it up, and never ends it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import pipeline.tracking as tracking
from pipeline.tracking import MlflowWriter, TrackingSettings
from pipeline.tracking_metrics import clean_params, result_metrics, round_metrics, safe_key
from tests.pipeline.carried import carried
from tests.pipeline.synthetic import synthetic_run

SETTINGS = TrackingSettings(flush_s=60.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for the module: creating it takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(autouse=True)
def _no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(SETTINGS.resolved_uri(root))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A server that does not answer until the event is set."""
    opened = threading.Event()
    connect = MlflowWriter._connect
    monkeypatch.setattr(MlflowWriter, "_connect", lambda self: (opened.wait(30), connect(self)))
    yield opened
    opened.set()


@pytest.fixture
def results(space) -> list[dict[str, Any]]:
    return synthetic_run(space)[0]


@pytest.fixture
def space():
    from envs.tasks.cartpole import PARAMETERS

    return PARAMETERS


def writer(root: Path, run_dir: Path, experiment: str = "cartpole", **more: Any) -> MlflowWriter:
    return MlflowWriter(SETTINGS, experiment, root, run_dir / "mlflow.json", **more)


def callback(root: Path, run_dir: Path, **more: Any):
    from pipeline.tracking_callback import MLflowCallback

    run_dir.mkdir(exist_ok=True)
    return MLflowCallback(SETTINGS, run_dir=run_dir, root=root, task="cartpole", params={"seed": 3}, **more)


def trial(trial_id: str = "t0") -> Any:
    return SimpleNamespace(trial_id=trial_id)


def run_of(client: Any, run_dir: Path, key: str = "run") -> Any:
    return client.get_run(json.loads((run_dir / "mlflow.json").read_text())["runs"][key])


# -- what is recorded --


def test_result_metrics_are_numbers_with_stepped_ranges(results):
    metrics = result_metrics(results[0])
    assert metrics["progress/updates"] == 500.0 and metrics["sim/n"] == 40.0
    assert (metrics["adr/cart.mass_kg/low"], metrics["adr/cart.mass_kg/high"]) == (0.7, 1.8)
    assert metrics["stage/index"] == 0.0 and metrics["robot/collection_s"] == 4.0
    # Text, lists, flags, what is missing and what is not finite stay out; so does the robot before a round.
    for left_out in ("stage/name", "progress/eta_s", "adr/entropy", "losses/actor", "real/success", "done"):
        assert left_out not in metrics
    assert all(isinstance(v, float) for v in metrics.values())


def test_round_metrics_hold_success_on_the_robot_and_the_gap(results):
    metrics = round_metrics(results[-1])
    names = {"real/success", "real/low", "real/high", "real/n", "gap/success", "gap/low", "gap/high"}
    assert names <= set(metrics) and "gap/verdict" not in metrics
    assert round_metrics(results[0]) == {} == result_metrics({}) == round_metrics({"real": None})


@settings(deadline=None)  # the first example imports MLflow
@given(st.text(max_size=300))
def test_any_key_becomes_one_mlflow_accepts(key: str):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(safe_key(key))
    _validate_param_name(safe_key(key))


def test_ordinary_keys_are_kept():
    assert safe_key("adr/cart.mass_kg/low") == "adr/cart.mass_kg/low"
    assert safe_key("loss[0]") == "loss_0_"


def test_params_are_flat_and_without_secrets():
    nested = {
        "learner": {"lr": 7e-4, "hidden": [64, 64]},
        "stages": [{"name": "mixed", "updates": 10}],
        "adr": {},
        "port": None,
        "server": {"api_token": "t0p", "password": None},
        "long": "x" * 2000,
    }
    params = clean_params(nested)
    assert params["learner.lr"] == "0.0007" and params["learner.hidden"] == "[64, 64]"
    assert (params["stages.0.name"], params["stages.0.updates"]) == ("mixed", "10")
    assert (params["adr"], params["port"]) == ("{}", "null")
    assert params["server.api_token"] == "***" and params["server.password"] == "null"
    assert len(params["long"]) == 500 and params["long"].endswith("…")


def test_a_password_in_the_configuration_is_refused():
    with pytest.raises(ValidationError) as caught:
        TrackingSettings(uri="https://lab:hunter2@mlflow.example.org")
    assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value) and "hunter2" not in str(caught.value)
    assert all(field.description for field in TrackingSettings.model_fields.values())


def test_uri_comes_from_settings_then_environment_then_the_runs_folder(tmp_path, monkeypatch):
    assert TrackingSettings().resolved_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert TrackingSettings().resolved_uri(tmp_path) == "https://mlflow.example.org"
    assert TrackingSettings(uri="sqlite:///a.db").resolved_uri(tmp_path) == "sqlite:///a.db"


# -- the run in MLflow --


def test_a_run_is_recorded_and_resumed_as_one(root, client, tmp_path, results):
    run_dir = tmp_path / "cartpole-0"
    first = callback(root, run_dir, tags={"seed": "3"})
    first.start()
    first.log_trial_start(trial())
    for i, result in enumerate(results[:20]):
        first.log_trial_result(i + 1, trial(), result)
    (run_dir / "report.png").write_bytes(b"png")
    # The terminal is closed; Tune restores the pickled callback with its saved state.
    second, state = carried(first), carried(first.get_state())
    assert first.finish([run_dir / "report.png", run_dir / "missing.onnx"], status="KILLED") is None
    assert run_of(client, run_dir).info.status == "KILLED"

    second.set_state(state)
    second.log_trial_start(trial())
    for i, result in enumerate(results[20:]):
        second.log_trial_result(i + 21, trial(), result)
    assert second.finish() is None
    run = run_of(client, run_dir)
    assert run.info.status == "FINISHED" and run.info.run_name == "cartpole-0"
    assert run.data.params == {"seed": "3"} and run.data.tags["task"] == "cartpole"
    assert run.data.tags["gap.verdict"] == results[-1]["gap"]["verdict"]
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["report.png"]
    history = lambda key: client.get_metric_history(run.info.run_id, key)  # noqa: E731
    assert [m.step for m in history("progress/updates")] == [r["progress"]["updates"] for r in results]
    assert [m.value for m in history("adr/cart.mass_kg/high")] == [
        r["adr"]["ranges"]["cart.mass_kg"][1] for r in results
    ]
    # One point a robot evaluation, at the updates of its policy.
    rounds = {r["real"]["updates"]: r["gap"]["high"] for r in results if r["real"]}
    assert {m.step: m.value for m in history("gap/high")} == rounds
    assert len(history("real/success")) == len(rounds) == len(history("gap/high"))


def test_a_sweep_gets_one_run_a_trial(root, client, tmp_path, results):
    run_dir = tmp_path / "sweep"
    sweep = callback(root, run_dir, per_trial=True)
    for name in ("a", "b"):
        chosen = SimpleNamespace(trial_id=name, evaluated_params={"learner.tau": name})
        sweep.log_trial_result(1, chosen, results[0])
        (run_dir / f"{name}.txt").write_text(name)
    (run_dir / "config.yaml").write_text("seed: 3")
    own = {name: [run_dir / f"{name}.txt"] for name in ("a", "b")}
    assert sweep.finish([run_dir / "config.yaml"], by_trial=own) is None
    for name in ("a", "b"):
        run = run_of(client, run_dir, name)
        assert (run.info.run_name, run.data.params) == (f"sweep {name}", {"seed": "3", "learner.tau": name})
        assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"config.yaml", f"{name}.txt"}


def test_a_run_the_server_does_not_know_is_begun_anew(root, client, tmp_path):
    (tmp_path / "mlflow.json").write_text(json.dumps({"runs": {"run": "0" * 32}}))
    w = writer(root, tmp_path)
    w.start("run", "again", {}, {})
    w.metrics("run", {"x": 1.0}, 5)
    assert w.close() is None
    assert run_of(client, tmp_path).data.metrics == {"x": 1.0}


def test_nothing_is_imported_or_written_when_disabled(tmp_path, results):
    from pipeline.tracking_callback import MLflowCallback

    off = TrackingSettings(enabled=False)
    silent = MLflowCallback(off, run_dir=tmp_path, root=tmp_path, task="cartpole", params={})
    silent.start()
    silent.log_trial_start(trial())
    silent.log_trial_result(1, trial(), results[0])
    assert silent.finish([tmp_path / "report.png"]) is None and list(tmp_path.iterdir()) == []


# -- when the server is slow or gone --


def test_training_does_not_wait_for_the_server(root, client, tmp_path, gate, monkeypatch):
    monkeypatch.setattr(tracking, "QUEUED_RESULTS", 5)
    w = writer(root, tmp_path)
    w.start("run", "slow", {}, {})  # every call returns although nothing has been written
    for step in range(10):
        w.metrics("run", {"x": 1.0}, step)
    assert not (tmp_path / "mlflow.json").exists()
    gate.set()
    assert "did not record 6 entries: too many were waiting" in str(w.close())
    assert [m.step for m in client.get_metric_history(w.ids["run"], "x")] == [0, 1, 2, 3]


def test_the_end_of_a_run_waits_only_so_long(root, tmp_path, gate):
    w = writer(root, tmp_path)
    w.metrics("run", {"x": 1.0}, 0)
    assert "was too slow" in str(w.close(timeout_s=0.01))


def test_an_unusable_server_gives_one_sentence_without_its_token(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://lab:s3cret@host/s3cret")
    monkeypatch.setattr(tracking, "CONNECT_ATTEMPTS", 1)
    said: list[str] = []
    w = writer(tmp_path, tmp_path / "run", warn=said.append)
    w.start("run", "lost", {}, {})
    w.metrics("run", {"x": 1.0}, 1)
    lost = w.close()
    assert len(said) == 1 and said[0].startswith("tracking.uri: MLflow at nonsense://***@host/*** cannot be written")
    assert lost is not None and "did not record 2 entries" in lost
    assert "s3cret" not in said[0] + lost and "\n" not in said[0] + lost


def test_a_failing_write_is_told_once_and_the_rest_goes_on(root, client, tmp_path):
    said: list[str] = []
    w = writer(root, tmp_path, warn=said.append)
    w.metrics("nobody", {"x": 1.0}, 1)
    w.metrics("nobody", {"x": 1.0}, 2)
    w.start("run", "fine", {}, {})
    w.metrics("run", {"x": 7.0}, 3)
    assert "did not record 2 entries" in str(w.close()) and len(said) == 1
    assert run_of(client, tmp_path).data.metrics == {"x": 7.0}


def test_results_reach_mlflow_through_tune(ray_session, root, client, tmp_path, results):
    from ray import tune

    class Replay(tune.Trainable):
        """Reports results that were made before."""

        def setup(self, config: dict) -> None:
            self.script = config["script"]

        def step(self) -> dict[str, Any]:
            return {**self.script[self.iteration], "done": self.iteration + 1 == len(self.script)}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    kept = callback(root, tmp_path / "tuned")
    fitted = tune.Tuner(
        tune.with_resources(Replay, {"cpu": 0.5}),
        param_space={"script": results[:10]},
        run_config=tune.RunConfig(name="tracked", storage_path=str(tmp_path), callbacks=[kept], verbose=0),
    ).fit()
    assert fitted.num_errors == 0 and kept.finish() is None
    run = run_of(client, tmp_path / "tuned")
    history = client.get_metric_history(run.info.run_id, "progress/updates")
    assert [m.step for m in history] == [500 * k for k in range(1, 11)]
    assert run.data.metrics["real/success"] == results[9]["real"]["success"]
