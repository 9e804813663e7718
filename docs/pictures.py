"""Draw real episodes of a run: `python docs/pictures.py RUN docs/pendulum.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from envs import panda
from envs.registry import make_task
from envs.task import Task
from envs.tasks.hover import GOAL_M, Hover
from envs.tasks.hover import SUCCESS_M as HELD_M
from envs.tasks.lift import Lift
from envs.tasks.push import PUCK_RADIUS_M, SUCCESS_M, Push
from envs.tasks.reach import SUCCESS_M as REACHED_M
from envs.tasks.reach import Reach
from pipeline.config import load_experiment
from robot.episodes import EpisodeStore, RobotEpisode
from robot.rollout import states

matplotlib.use("Agg")

ARM_M = 0.5
STROBE = 4  # control steps between two arms of the picture
SHOWN_S = 4.0
EPISODES_SHOWN = 6  # of an arm


def pendulum(task: Task, episodes: list[RobotEpisode]) -> Figure:
    """Left the arm over the first seconds, dark is late; right what was measured and sent, over the whole episode."""
    columns, control_hz = episodes[-1].columns, task.control_hz
    angle, sent = columns["joint_position"][:, 0], task.command(columns["sent"])[:, 0]
    time = np.arange(1, len(angle) + 1) / control_hz
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    shown = angle[: int(SHOWN_S * control_hz) : STROBE]
    for k, q in enumerate(shown):
        tip = ARM_M * np.sin(q), -ARM_M * np.cos(q)
        shade = 0.1 + 0.9 * k / len(shown)
        left.plot([0, tip[0]], [0, tip[1]], color="tab:blue", alpha=shade, lw=1.2)
        left.plot(*tip, "o", color="tab:blue", alpha=shade, ms=5)
    left.plot(0, 0, "o", color="black", ms=4)
    left.set(xlim=(-0.6, 0.6), ylim=(-0.6, 0.6), aspect="equal", xlabel="m", title=f"the first {SHOWN_S:g} s")
    right.plot(time, angle, color="tab:blue", label="angle, rad (0 hangs)")
    right.step(time, sent, color="tab:orange", lw=0.8, label="torque sent, N m")
    for upright in (-np.pi, np.pi):
        right.axhline(upright, color="gray", lw=0.8, ls=":")
    right.set(xlabel="s", title="measured on the twin; dotted: upright")
    right.legend(loc="center right")
    return figure


def arm(task: Reach | Push, episodes: list[RobotEpisode]) -> Figure:
    """Left some episodes from above: the ways of tip and puck, and the goal; right the distances."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    for k, episode in enumerate(episodes[-EPISODES_SHOWN:]):
        columns, color = episode.columns, f"C{k}"
        tip = panda.chain().position(columns["joint_position"].astype(float))
        left.plot(tip[:, 1], tip[:, 0], color=color, lw=1.0, alpha=0.9 if not task.bodies else 0.4)
        if task.bodies:
            puck = columns["body_pose"][:, :2]
            left.plot(puck[:, 1], puck[:, 0], color=color, lw=2.0)
            left.add_patch(Circle((puck[-1, 1], puck[-1, 0]), PUCK_RADIUS_M, fill=False, color=color, lw=0.8))
        goal = columns["goal"][0]
        left.plot(goal[1], goal[0], "x", color=color, ms=8, mew=2)
        time = np.arange(1, len(tip) + 1) / task.control_hz
        right.plot(time, 100.0 * task.distance(states(task, columns)), color=color)
    within = SUCCESS_M if task.bodies else REACHED_M
    right.axhline(100.0 * within, color="gray", lw=0.8, ls=":")
    left.invert_xaxis()  # the arm looks up the page
    left.set(aspect="equal", xlabel="y, m", ylabel="x, m", title="from above; crosses: goals")
    what = "puck" if task.bodies else "tip"
    right.set(xlabel="s", ylabel=f"{what} to goal, cm", ylim=(0, None), title="measured on the twin; dotted: success")
    return figure


def hover(task: Hover, episodes: list[RobotEpisode]) -> Figure:
    """Left some flights from the side, ahead against height; right the distances from the goal."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.4])
    for k, episode in enumerate(episodes[-EPISODES_SHOWN:]):
        columns, color = episode.columns, f"C{k}"
        place = columns["joint_position"]
        left.plot(place[:, 0], place[:, 2], color=color, lw=1.2)
        left.plot(place[0, 0], place[0, 2], "o", color=color, ms=4)
        time = np.arange(1, len(place) + 1) / task.control_hz
        right.plot(time, 100.0 * task.distance(states(task, columns)), color=color)
    left.plot(GOAL_M[0], GOAL_M[2], "x", color="black", ms=8, mew=2)
    left.set(aspect="equal", xlabel="x, m", ylabel="z, m", title="from the side; cross: goal")
    right.axhline(100.0 * HELD_M, color="gray", lw=0.8, ls=":")
    right.set(xlabel="s", ylabel="to goal, cm", ylim=(0, None), title="measured on the twin; dotted: success")
    return figure


def lift(task: Lift, episodes: list[RobotEpisode]) -> Figure:
    """Left some episodes from the side: the ways of tip (thin) and object; right heights and the opening, over time."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    fingers = right.twinx()
    for k, episode in enumerate(episodes[-EPISODES_SHOWN:]):
        columns, color = episode.columns, f"C{k}"
        tip, place = task.tip(columns["joint_position"].astype(float)), columns["body_pose"]
        left.plot(tip[:, 1], tip[:, 2], color=color, lw=1.0, alpha=0.4)
        left.plot(place[:, 1], place[:, 2], color=color, lw=2.0)
        left.plot(place[0, 1], place[0, 2], "s", color=color, ms=5)
        time = np.arange(1, len(tip) + 1) / task.control_hz
        right.plot(time, 100.0 * task.height(states(task, columns)), color=color)
        fingers.plot(time, 100.0 * columns["joint_position"][:, -1], color=color, lw=0.8, ls="--", alpha=0.6)
    left.set(aspect="equal", xlabel="y, m", ylabel="z, m", title="from ahead: object, thin: tip")
    right.axhline(0.0, color="gray", lw=0.8, ls=":")
    right.set(xlabel="s", ylabel="object above success, cm", title="measured on the twin; dotted: success")
    fingers.set(ylabel="dashed: opening of a finger, cm", ylim=(0, 12))
    return figure


def main(run: Path, picture: Path) -> None:
    experiment = load_experiment(run / "config.yaml")
    task, store = make_task(experiment.task), EpisodeStore(run / "robot" / "episodes")
    chosen = [meta for meta in store.list() if meta.purpose == "evaluation" and meta.success]
    episodes = [store.read(meta.episode_id) for meta in chosen[-EPISODES_SHOWN:]]
    if isinstance(task, Hover):
        drawn = hover(task, episodes)
    elif isinstance(task, Lift):
        drawn = lift(task, episodes)
    elif isinstance(task, Reach | Push):
        drawn = arm(task, episodes)
    else:
        drawn = pendulum(task, episodes)
    drawn.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
