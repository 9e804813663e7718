"""`sim2real identify` for robots that fly, are driven by servos or touch things: by replaying episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import typer

from envs.task import Task
from pipeline.identify import identified
from pipeline.identify.announce import announce
from pipeline.identify.replay_fit import ReplayFit, ReplaySettings, fit_replayed
from pipeline.identify.replay_page import write_page
from pipeline.identify.replay_posterior import to_dict
from pipeline.identify.replay_recording import Recording, of_episode
from pipeline.identify.task_command import experiment_of, showing
from robot.interface import RobotError
from robot.policy import ExportedPolicy, Policy, Scripted

IN_ALL_S = 60.0  # of flights, where nothing else is asked for


def fit_recordings(
    task: Task, recordings: Sequence[Recording], settings: ReplaySettings, seed: int, output: Path, as_json: bool
) -> ReplayFit:
    """Fit, write identified.yaml and its page of plots, and say what was found."""
    with showing("identifying") as tell:
        fit = fit_replayed(task, recordings, settings, seed, tell)
    content = to_dict(fit)
    identified.save(content, output)
    page = output.with_suffix(".png")
    write_page(fit, page)
    announce(content, output, page, as_json)
    return fit


def fly_on(task: Task, where: str, seconds: float | None, seed: int, folder: Path) -> list[Recording]:
    """Episodes on the robot of a run or configuration, for about so many seconds, kept with the run's others.

    Flown by a policy that shows the parameters where there is one for the task, else by the run's own. Booked as
    identification. A stop ends it; what was recorded until then is used, if it is enough.
    """
    from robot.open import open_session

    experiment, robot_dir = experiment_of(where, task)
    policy = pilot(task) or _own_policy(where, task)
    episode_s = task.max_steps * task.control_period_s
    count = max(1, math.ceil((IN_ALL_S if seconds is None else seconds) / episode_s))
    found: list[Recording] = []
    session = open_session(experiment.robot, task, robot_dir or folder)
    try:
        needed = {name: s * count for name, s in session.longest_s("identification").items()}
        session.ledger.afford(needed)
        with showing("flying") as tell:
            for k in range(count):
                tell(k / count, f"episode {k + 1} of {count}")
                if isinstance(policy, Scripted):
                    policy.begin(seed * 1000 + k)
                episode = session.run_episode(
                    policy, purpose="identification", seed=seed, world=k, round_id="identification"
                )
                if episode.meta.steps >= 3 and not episode.meta.void:
                    found.append(of_episode(task, episode))
                if episode.meta.stop:
                    typer.echo(f"stopped in episode {k + 1}: {episode.meta.stop}", err=True)
                    break
    finally:
        session.close()
    if not found:
        raise RobotError("identify: no episode was recorded; accepted is a robot that may move")
    return found


def pilot(task: Task) -> Scripted | None:
    """A hand-written policy that makes this task's parameters show, if there is one."""
    if task.name == "hover":
        from robot.hover_pilot import HoverPilot

        return HoverPilot(task)
    if task.name == "push":
        from robot.pusher import Pusher

        return Pusher(task)
    return None


def _own_policy(where: str, task: Task) -> Policy:
    from pipeline.run import find_policy

    if not Path(where).is_dir():
        raise RobotError(f"robot: {where} has no policy to move the robot of {task.name}; accepted is a run's folder")
    return ExportedPolicy(find_policy(Path(where)))


def refuse(task: Task, routine: Sequence[str], use: Path | None, model: str | None) -> None:
    """Raise RobotError for what only robots driven by efforts can do."""
    if routine or use is not None or model == "joint":
        what = "routine" if routine else "predict" if use is not None else "model: joint"
        raise RobotError(f"{what}: {task.name} is identified by replaying; accepted with it are --log and --robot")
