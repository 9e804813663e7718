"""From an experiment to a finished run folder: Ray, the robot's actor, the Tuner, and the report at the end.

A run folder holds config.yaml, policy.onnx, summary.json, report.png, `robot/` (episodes, recordings, ledger, stop
latch), `tune/` (results and checkpoints), and posterior.yaml where the run identified its robot.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.config import Experiment, load_experiment, save_experiment
from pipeline.report import build_summary, posterior_table, stage_table, write_report, write_summary
from robot.interface import RobotError

CONFIG_FILE, SUMMARY_FILE, POLICY_FILE, STARTED_FILE = (
    "config.yaml",
    "summary.json",
    "policy.onnx",
    "started.json",
)
POSTERIOR_FILE, FOUND_FILE = "identified.yaml", "posterior.yaml"  # what a run is given, and what it found
RESULT_FILES = (SUMMARY_FILE, POLICY_FILE, "report.png")
TUNE_DIR, ROBOT_DIR = "tune", "robot"
NAMESPACE = "sim2real"
OBJECT_STORE_BYTES = 512 * 1024**2
FIT_CPUS = 0.5  # that Ray reserves where a run may fit recordings
ROBOT_CLOSE_S = 20.0


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message is a sentence."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C: the run can be resumed from `run_dir`."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(str(run_dir))
        self.run_dir = run_dir


def train(experiment: Experiment, console: Console) -> dict[str, Any]:
    """Make a run folder and train to the final verdict. Returns the summary (of a sweep: {"trials": summaries})."""
    run_dir = _new_run_dir(experiment)
    experiment = _with_own_posterior(experiment, run_dir)
    save_experiment(experiment, run_dir / CONFIG_FILE)
    _write_start(run_dir, time.time())
    try:
        return _fit(experiment, run_dir, console, restore=False)
    except RobotError:
        if not list((run_dir / TUNE_DIR).glob("*/result.json")):
            shutil.rmtree(run_dir)  # the robot could not be had, and nothing happened that is worth keeping
        raise


def resume(run_dir: Path, console: Console) -> dict[str, Any]:
    """Continue an interrupted run from its newest checkpoint; a finished run just shows its summary."""
    experiment = read_run(run_dir)
    summary_file = run_dir / SUMMARY_FILE
    if summary_file.exists():
        console.print(f"{run_dir} is finished; nothing to resume.")
        summary = json.loads(summary_file.read_text())
        console.print(stage_table(summary))
        return summary
    _leave_out_the_pause(run_dir)
    restorable = (run_dir / TUNE_DIR / "tuner.pkl").exists()
    return _fit(experiment, run_dir, console, restore=restorable)


def evaluate(run_dir: Path, episodes: int, overrides: list[str], console: Console) -> dict[str, Any]:
    """Fly the run's policy on the robot and in the nominal simulation, from the same starts: {real, sim, gap}.

    Needs neither Ray nor torch. Overrides change the world it is measured in, for example `robot.twin.hidden=FILE`.
    """
    from pipeline.standalone import evaluate_policy

    read_run(run_dir)
    experiment = load_experiment(run_dir / CONFIG_FILE, overrides)
    return evaluate_policy(experiment, find_policy(run_dir).read_bytes(), episodes, run_dir / ROBOT_DIR, console)


def export(run_dir: Path, output: Path | None) -> Path:
    """Copy the run's newest policy to `output` (default: policy.onnx in the run folder). Returns where it lies."""
    read_run(run_dir)
    source, target = find_policy(run_dir), output or run_dir / POLICY_FILE
    if source.resolve() != target.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    return target


def read_run(run_dir: Path) -> Experiment:
    """The experiment of a run folder. Raises RunError where it is none."""
    return load_experiment(run_config(run_dir))


def run_config(run_dir: Path) -> Path:
    """The resolved configuration of a run folder. Raises RunError where it is none."""
    if not (run_dir / CONFIG_FILE).is_file():
        what = "is no run folder (it has no config.yaml)" if run_dir.is_dir() else "does not exist"
        raise RunError(f"{run_dir}: {what}; accepted is a folder that 'sim2real train' made, such as runs/NAME")
    return run_dir / CONFIG_FILE


def find_policy(run_dir: Path) -> Path:
    """The finished policy, or the one of the newest checkpoint. Raises RunError before the first."""
    if (run_dir / POLICY_FILE).is_file():
        return run_dir / POLICY_FILE
    saved = sorted((run_dir / TUNE_DIR).glob(f"*/checkpoint_*/{POLICY_FILE}"), key=lambda p: p.stat().st_mtime)
    if not saved:
        raise RunError(f"{run_dir}: holds no policy yet; accepted is a run that reached its first checkpoint")
    return saved[-1]


# -- inside ---------------------------------------------------------------------------------------------------------


def _new_run_dir(experiment: Experiment) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path(experiment.run_dir) / f"{experiment.name}-seed{experiment.seed}-{stamp}"
    for number in range(100):
        path = base if number == 0 else base.with_name(f"{base.name}-{number}")
        try:
            path.mkdir(parents=True)
            return path.resolve()
        except FileExistsError:
            continue
    raise RunError(f"run_dir: {base} and 99 names like it exist; accepted is a folder with room for new runs")


def _with_own_posterior(experiment: Experiment, run_dir: Path) -> Experiment:
    """A copy of identified.yaml goes with the run, so that it can be resumed whatever becomes of the original."""
    randomization = experiment.randomization
    if randomization.posterior is None:
        return experiment
    own = run_dir / POSTERIOR_FILE
    shutil.copyfile(randomization.posterior, own)
    moved = randomization.model_copy(update={"posterior": own})
    return experiment.model_copy(update={"randomization": moved})


def _fit(experiment: Experiment, run_dir: Path, console: Console, restore: bool) -> dict[str, Any]:
    from pipeline.progress import Progress, ProgressCallback
    from pipeline.tracking_callback import MLflowCallback

    tracking = MLflowCallback(
        experiment.tracking,
        run_dir=run_dir,
        root=Path(experiment.run_dir),
        task=experiment.task,
        params=experiment.to_dict(),
        per_trial=experiment.sweep is not None,
        warn=lambda sentence: console.print(f"[yellow]{sentence}[/yellow]"),
    )
    tracking.start()
    _import_ahead()
    with Progress(console, experiment, run_dir.name) as progress, _ray(experiment):
        with _robot(experiment, run_dir) as robot_actor:
            callbacks = [ProgressCallback(progress), tracking]
            results = _tuner(experiment, run_dir, robot_actor, callbacks, restore).fit()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Tune keeps its own handler after the end
    if results.errors:
        tracking.finish(status="FAILED")
        raise results.errors[0]
    trials = [r for r in results if r.metrics]
    if len(trials) < len(results) or not all(r.metrics.get("done") for r in trials):
        tracking.finish(status="KILLED")
        raise RunInterrupted(run_dir)
    is_sweep = experiment.sweep is not None
    folders = {r.metrics["trial_id"]: _conclude(experiment, run_dir, r, own_folder=is_sweep) for r in trials}
    summaries = [json.loads((folder / SUMMARY_FILE).read_text()) for folder in folders.values()]
    for each in summaries:
        console.print(stage_table(each))
        if (table := posterior_table(each)) is not None:
            console.print(table)
    files = {trial: [folder / name for name in RESULT_FILES] for trial, folder in folders.items()}
    shared = [run_dir / CONFIG_FILE] if is_sweep else [run_dir / CONFIG_FILE, *next(iter(files.values()))]
    if problem := tracking.finish(shared, by_trial=files):
        console.print(f"[yellow]{problem}[/yellow]")
    console.print(f"Run folder: {run_dir}")
    return {"trials": summaries} if is_sweep else summaries[0]


def _write_start(run_dir: Path, at: float) -> None:
    (run_dir / STARTED_FILE).write_text(json.dumps({"time": at}))


def _read_start(run_dir: Path) -> float:
    return json.loads((run_dir / STARTED_FILE).read_text())["time"]


def _leave_out_the_pause(run_dir: Path) -> None:
    """Move the start of an interrupted run forward, so that its wall time counts only while it ran."""
    heard = [r["timestamp"] for d in (run_dir / TUNE_DIR).glob("*/") for r in read_results(d)[-1:]]
    ran_s = max(heard, default=_read_start(run_dir)) - _read_start(run_dir)
    _write_start(run_dir, time.time() - ran_s)


def _import_ahead() -> None:
    """Import RLlib while Ray starts: both take seconds and neither needs the other.

    Torch comes first, in this thread: imported beside Ray's start, its operators were once not all registered.
    """
    importlib.import_module("torch")
    threading.Thread(target=importlib.import_module, args=("pipeline.algorithm",), daemon=True).start()


def _tuner(experiment: Experiment, run_dir: Path, robot_actor: str | None, callbacks: list, restore: bool) -> Any:
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # three loggers that write the same results
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    from pipeline.algorithm import Sim2Real, trial_experiment
    from pipeline.schedulers.adr import ADRScheduler
    from pipeline.schedulers.adr_rule import AdrRule

    def rule(config: dict[str, Any]) -> AdrRule:
        e = trial_experiment(config)
        return AdrRule(e.ranges(), e.adr(), e.make_task().adr_thresholds)

    sweep = experiment.sweep
    space = {
        "experiment": experiment.model_copy(update={"sweep": None}).to_dict(),
        "sweep": sweep.param_space() if sweep else {},
        "robot_actor": robot_actor,
        "namespace": NAMESPACE,
    }
    if restore:
        path = str(run_dir / TUNE_DIR)
        tuner = tune.Tuner.restore(path, Sim2Real, param_space=space, resume_unfinished=True, resume_errored=True)
        inner: Any = tuner._local_tuner
        inner._run_config.callbacks = [JsonLoggerCallback(), *callbacks]  # of this terminal, not of the old one
        return tuner
    return tune.Tuner(
        Sim2Real,
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=ADRScheduler(rule),
            num_samples=sweep.samples if sweep else 1,
            max_concurrent_trials=sweep.concurrent if sweep else 1,
        ),
        run_config=tune.RunConfig(
            name=TUNE_DIR,
            storage_path=str(run_dir),
            callbacks=[JsonLoggerCallback(), *callbacks],
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=experiment.checkpoint.every_iterations,
                num_to_keep=experiment.checkpoint.keep,
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    )


@contextmanager
def _ray(experiment: Experiment) -> Iterator[None]:
    """Join the cluster named by RAY_ADDRESS, or start Ray on this machine and end it afterwards."""
    import ray

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "error"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**common)
    else:
        ray.init(
            address="local",  # never somebody else's cluster that happens to run here
            num_cpus=max(os.cpu_count() or 1, _cpus(experiment)),
            resources={"robot": 1},
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **common,
        )
    try:
        yield
    finally:
        ray.shutdown()


def bundles(experiment: Experiment) -> dict[str, list[float]]:
    """CPUs that a trial reserves for each of its processes, in the order of its placement group."""
    e = experiment
    return {
        "learner": [e.learner.cpus],
        "runners": [e.sim.runner_cpus] * e.sim.runners,
        "evaluators": [e.evaluation.cpus] * e.evaluation.evaluators,
        "fits": [FIT_CPUS] * e.identifies,
    }


def first_bundle(experiment: Experiment, kind: str) -> int:
    """The number, in the placement group, of the first of these bundles."""
    every = bundles(experiment)
    return sum(len(every[other]) for other in list(every)[: list(every).index(kind)])


def _cpus(experiment: Experiment) -> int:
    """What one trial reserves, so that a laptop with fewer cores still runs it, slower."""
    return math.ceil(sum(map(sum, bundles(experiment).values())))


@contextmanager
def _robot(experiment: Experiment, run_dir: Path) -> Iterator[str]:
    """The robot's actor: named, outside every trial's placement group, on the node that has the robot."""
    import ray

    from pipeline.actors.robot_actor import RobotActor

    name = f"robot:{experiment.robot.name}"
    actor = (
        ray.remote(RobotActor)
        .options(
            name=name,
            lifetime="detached",
            resources={"robot": 1},
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=4,
            scheduling_strategy="DEFAULT",
        )
        .remote(experiment.robot.model_dump(mode="json"), experiment.task, str(run_dir / ROBOT_DIR))
    )
    try:
        if problem := ray.get(actor.opened.remote()):
            raise RobotError(problem)
        yield name
    finally:
        try:
            ray.get(actor.close.remote(), timeout=ROBOT_CLOSE_S)
        finally:
            ray.kill(actor)  # pyright: ignore[reportArgumentType]


def _conclude(experiment: Experiment, run_dir: Path, result: Any, own_folder: bool) -> Path:
    """Write policy.onnx, summary.json and report.png of one finished trial; returns the folder they are in."""
    folder = run_dir
    if own_folder:
        folder = run_dir / Path(result.path).name
        folder.mkdir(exist_ok=True)
    shutil.copyfile(Path(result.checkpoint.path) / POLICY_FILE, folder / POLICY_FILE)
    if (found := Path(result.checkpoint.path) / FOUND_FILE).is_file():
        shutil.copyfile(found, folder / FOUND_FILE)
    metrics = result.metrics
    summary = build_summary(
        run=folder.name,
        task=experiment.task,
        seed=experiment.seed,
        wall_s=time.time() - _read_start(run_dir),
        env_steps=metrics["progress"]["env_steps"],
        updates=metrics["progress"]["updates"],
        robot_s={k: metrics["robot"][f"{k}_s"] for k in ("collection", "evaluation", "identification")},
        robot_episodes=metrics["robot"]["episodes"],
        robot_ledger=metrics["robot"]["ledger"],
        budgets_spent=metrics["robot"]["budgets_spent"],
        stages=metrics["stages"],
        final=metrics["final"],
        identification=metrics["identification"],
    )
    write_summary(folder, summary)
    write_report(folder, read_results(Path(result.path)), summary)
    return folder


def read_results(trial_dir: Path) -> list[dict[str, Any]]:
    """Every result of a trial, oldest first, across resumes; a line torn by a crash is left out."""
    results, file = [], trial_dir / "result.json"
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            results.append(json.loads(line))
        except ValueError:
            continue
    return results
