"""Evaluate an exported policy without Ray or torch: the robot's session and one simulated environment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.actors.evaluator import Evaluator, Scenario
from pipeline.actors.sim_runner import Randomization
from pipeline.config import Experiment
from pipeline.gap import Outcomes, transfer_gap
from pipeline.report import measured
from pipeline.worlds import FINAL_WORLD, evaluation_seed
from robot.open import open_session
from robot.policy import ExportedPolicy


def evaluate_policy(
    experiment: Experiment, policy: bytes, episodes: int, state_dir: Path, console: Console
) -> dict[str, Any]:
    """{real, sim, gap} of `episodes` episodes from the same starts as the final evaluation of a run.

    Raises RobotError when the robot cannot be used, stops on the way, or has no budget left for so many episodes.
    """
    sim = _simulate(experiment, policy, episodes)
    real = _fly(experiment, policy, episodes, state_dir, console)
    gap = transfer_gap(sim, real, np.random.default_rng(0))
    return measured(sim.block(), real.block(), gap)


def _simulate(experiment: Experiment, policy: bytes, episodes: int) -> Outcomes:
    evaluator = Evaluator(experiment.task, min(episodes, 50), evaluation_seed(experiment.seed))
    nominal = Randomization.of(experiment.ranges(), 0.0)
    try:
        done = evaluator.run(policy, 0, Scenario("nominal", episodes, FINAL_WORLD, nominal))
    finally:
        evaluator.close()
    return Outcomes(done.success, done.returns, done.steps, FINAL_WORLD + np.arange(episodes))


def _fly(experiment: Experiment, policy: bytes, episodes: int, state_dir: Path, console: Console) -> Outcomes:
    exported, metas = ExportedPolicy(policy), []
    session = open_session(experiment.robot, experiment.make_task(), state_dir)
    round_id = f"evaluate/{time.time():.3f}"
    columns = (TextColumn("robot episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        session.ledger.afford({name: s * episodes for name, s in session.longest_s("evaluation").items()})
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("", total=episodes)
            while len(metas) < episodes:
                if session.status().state == "stopped":
                    session.revive_twin()
                episode = session.run_episode(
                    exported,
                    purpose="evaluation",
                    seed=evaluation_seed(experiment.seed),
                    world=FINAL_WORLD + len(metas),
                    round_id=round_id,
                )
                if not episode.meta.void:
                    metas.append(episode.meta)
                    progress.advance(bar)
    finally:
        session.close()
    column = lambda name: np.array([getattr(meta, name) for meta in metas])  # noqa: E731
    return Outcomes(column("success"), column("episode_return"), column("steps"), column("world"))
