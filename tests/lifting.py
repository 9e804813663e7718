"""A person's way of lifting, as a function of what a policy observes: the same in simulation and on a twin."""

from __future__ import annotations

import numpy as np

from envs import panda
from envs.tasks.lift import MAX_FINGER_M_S, MAX_SPEED_M_S, Lift

GAIN_PER_S = 4.0
ABOVE_M = 0.07  # where the tip waits until it is over the object
AIM_M, DEPTH_M = 0.016, 0.014  # what counts as over the object, and as around it
TOP_M = 0.98  # to which height it is lifted
HELD_M = 0.09  # from the tip to a held object, as a late camera sees it that now and then misses a picture
STILL_M = 0.0015  # fingers that move less than this in two steps have the object


class ScriptedLift:
    """Over the object, down, close until the fingers stand still, up. A robot session takes it for a policy."""

    version, run = 1, "scripted"

    def __init__(self, task: Lift) -> None:
        self._task = task

    def check(self, task: Lift) -> None:
        """It needs nothing but the task."""

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 0.0) -> np.ndarray:
        task = self._task
        frames = observation.reshape(len(observation), task.history, task.frame_size) / task.frame_scale
        now, before = frames[:, -1], frames[:, 0]
        tip_z, finger, to_object, asked = now[:, 2] + 0.85, now[:, 3], now[:, 4:7], now[:, 11]
        over = np.linalg.norm(to_object[:, :2], axis=1) < AIM_M
        around = over & (np.abs(to_object[:, 2]) < DEPTH_M)
        closing = (asked < -0.3) & (np.linalg.norm(to_object, axis=1) < HELD_M)
        still = np.abs(finger - before[:, 3]) < STILL_M
        have = closing & still & (before[:, 11] < -0.3)

        action = np.zeros((len(now), 4))
        action[:, :2] = to_object[:, :2] * GAIN_PER_S / MAX_SPEED_M_S
        down = np.where(over, to_object[:, 2], to_object[:, 2] + ABOVE_M)
        action[:, 2] = down * GAIN_PER_S / MAX_SPEED_M_S
        action[:, 3] = (panda.STROKE[1] - 0.02 - finger) / 0.1 / MAX_FINGER_M_S
        grasps = around | closing
        action[grasps] = (0.0, 0.0, 0.0, -1.0)
        action[have, 2] = (TOP_M - tip_z[have]) * GAIN_PER_S / MAX_SPEED_M_S
        return np.clip(action, -1.0, 1.0).astype(np.float32)
