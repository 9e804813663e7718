"""Draw one real episode of a run: `python docs/pictures.py RUN docs/pendulum.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from envs.registry import make_task
from pipeline.config import load_experiment
from robot.episodes import EpisodeStore, RobotEpisode

matplotlib.use("Agg")

ARM_M = 0.5
STROBE = 4  # control steps between two arms of the picture
SHOWN_S = 4.0


def pendulum(episode: RobotEpisode, control_hz: float, torque_nm: float) -> Figure:
    """Left the arm over the first seconds, dark is late; right what was measured and sent, over the whole episode."""
    angle, sent = episode.columns["joint_position"][:, 0], episode.columns["sent"][:, 0] * torque_nm
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


def main(run: Path, picture: Path) -> None:
    experiment = load_experiment(run / "config.yaml")
    task, store = make_task(experiment.task), EpisodeStore(run / "robot" / "episodes")
    chosen = [meta for meta in store.list() if meta.purpose == "evaluation" and meta.success][-1]
    effort = float(task.command(np.ones((1, task.action_size)))[0, 0])
    pendulum(store.read(chosen.episode_id), task.control_hz, effort).savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
