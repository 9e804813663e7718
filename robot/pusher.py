"""A hand-written policy for push that pushes the puck about, lets it slide, and moves the arm fast and slowly."""

from __future__ import annotations

import numpy as np

from envs.task import Task
from envs.tasks.push import MAX_SPEED_M_S, PUCK_RADIUS_M, WORKSPACE
from robot.interface import RobotError
from robot.policy import Scripted

CLEAR_M = 0.075  # from the puck's centre, on the way round it
BEHIND_M = 0.07
NEAR_PER_S = 6.0  # speed towards a place, for each m
SPEEDS_M_S = 0.12, 0.35  # of pushes
PUSH_M = 0.05, 0.12  # how far a push goes before the hand is taken back
BACK_S = 0.6  # for which it is taken back, so that the puck slides by itself
MARGIN_M = 0.06  # of the workspace in which pushes aim


class Pusher(Scripted):
    """Goes behind the puck, pushes it in a direction and at a speed of its own choice, draws back, and again.

    `begin` starts an episode, with choices of its own for each number. For one machine or several at once.
    """

    def __init__(self, task: Task) -> None:
        if task.name != "push":
            raise RobotError(f"pusher: {task.name} given; accepted is the task push")
        super().__init__(task, "pusher")
        self._scale = task.frame_scale.astype(float)
        (x0, y0, _), (x1, y1, _) = WORKSPACE
        self._low, self._high = np.array([x0, y0]) + MARGIN_M, np.array([x1, y1]) - MARGIN_M
        self.begin(0)

    def begin(self, number: int) -> None:
        self._random = np.random.default_rng([number, 11])
        self._phase = np.zeros(0, int)  # 0: on the way behind the puck, 1: pushing, 2: drawing back

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        """(N, 2) actions for (N, policy_size) observations, the newest frame last."""
        newest = observation[:, -len(self._scale) :].astype(float) / self._scale
        tip, to_puck = newest[:, :2] + (0.5, 0.0), newest[:, 2:4]
        puck = tip + to_puck
        if len(self._phase) != len(tip):
            self._start(puck)
        velocity = np.zeros_like(tip)
        for i in range(len(tip)):
            velocity[i] = self._one(i, tip[i], puck[i])
        return np.clip(velocity / MAX_SPEED_M_S, -1.0, 1.0).astype(np.float32)

    def _start(self, puck: np.ndarray) -> None:
        n = len(puck)
        self._phase, self._since = np.zeros(n, int), np.zeros(n)
        self._from, self._speed, self._way = puck.copy(), np.zeros(n), np.zeros(n)
        self._ahead = np.zeros((n, 2))
        for i in range(n):
            self._choose(i, puck[i])

    def _choose(self, i: int, puck: np.ndarray) -> None:
        aim = self._random.uniform(self._low, self._high)
        away = aim - puck
        self._ahead[i] = away / max(float(np.linalg.norm(away)), 1e-6)
        self._speed[i], self._way[i] = self._random.uniform(*SPEEDS_M_S), self._random.uniform(*PUSH_M)
        self._phase[i] = 0

    def _one(self, i: int, tip: np.ndarray, puck: np.ndarray) -> np.ndarray:
        """(2,) m/s of the tip."""
        ahead = self._ahead[i]
        if self._phase[i] == 0:
            behind = puck - BEHIND_M * ahead
            off = behind - tip
            if np.linalg.norm(off) < 0.012:
                self._phase[i], self._from[i] = 1, puck
            way = self._round(tip, puck, behind) - tip
            return way * min(NEAR_PER_S, MAX_SPEED_M_S / max(float(np.linalg.norm(way)), 1e-6))
        if self._phase[i] == 1:
            side = puck - tip
            side = side - ahead * (side @ ahead)  # stay behind the middle of the puck
            gone = float((puck - self._from[i]) @ ahead)
            if gone > self._way[i] or np.linalg.norm(side) > PUCK_RADIUS_M or not self._inside(puck + 0.03 * ahead):
                self._phase[i], self._since[i] = 2, 0.0
            return ahead * self._speed[i] + 2.0 * side
        self._since[i] += self.task.control_period_s
        if self._since[i] > BACK_S:
            self._choose(i, puck)
        return -0.15 * ahead

    def _round(self, tip: np.ndarray, puck: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The next place on a way to `target` that leaves the puck alone."""
        away, wanted = tip - puck, target - puck
        angle = np.arctan2(away[1], away[0])
        turn = np.arctan2(wanted[1], wanted[0]) - angle
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        if abs(turn) < 0.35:
            return target
        angle += np.clip(turn, -0.6, 0.6)
        return puck + (CLEAR_M + 0.01) * np.array([np.cos(angle), np.sin(angle)])

    def _inside(self, place: np.ndarray) -> bool:
        return bool(((place > self._low) & (place < self._high)).all())
