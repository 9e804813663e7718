"""TaskVectorEnv: n simulated worlds of one task behind Gymnasium's vector interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.effects.task_effects import TaskEffects
from envs.history import HistoryStack
from envs.randomization.keyed import KeyedRandom, Stream
from envs.randomization.noise import NoiseAhead
from envs.randomization.parameters import RangeError, Ranges
from envs.randomization.samplers import Sampler, UniformSampler
from envs.task import State, Task
from envs.world import World, WorldError

GROUPS = ("policy", "privileged")


class TaskVectorEnv(VectorEnv):
    """A task in n randomized worlds, stepped as one.

    The observation is the requested groups side by side, one flat float32 row a world: `policy` (what the
    robot has) and `privileged` (a flag 1, the scaled parameters, the scaled true state). Reward, failure and
    success come from the measured state, as they do on a robot.

    Worlds that end restart in the same step: the returned observation is the first of the next episode, and
    `info` then holds, for the worlds marked in `_final_obs` (n,): `final_obs` (n, size), `success`,
    `episode_return`, `episode_steps` (n,) and the ended episode's `parameters` (n, d). On other steps `info`
    is empty.

    World i has the global number `first_world + i`. Everything random is a function of (seed, global number,
    episode, step), so `seed` and `episodes` are the whole random state, and results do not depend on n or on
    reset order.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self,
        task: Task,
        n: int,
        *,
        seed: int = 0,
        ranges: Ranges | None = None,
        dr_strength: float = 1.0,
        sampler: Sampler | None = None,
        first_world: int = 0,
        world: World | None = None,
        groups: Sequence[str] = ("policy",),
        streams: tuple[Stream, ...] = (),
    ) -> None:
        """Without `ranges` and `sampler` all worlds are nominal. `world` None makes BulletWorlds.

        `streams` are those of standard normals that `normals` is asked for.
        """
        self.closed = True  # until there is something to close
        if n < 1:
            raise ValueError(f"n: {n} is not a number of worlds; accepted is 1 or more")
        if not groups or not set(groups) <= set(GROUPS) or len(set(groups)) < len(groups):
            raise ValueError(f"groups: {list(groups)} cannot be had; accepted is one or more of {list(GROUPS)}")
        self.task, self.num_envs = task, n
        self._groups, self._streams = tuple(groups), streams
        self._seed(seed)
        self.set_randomization(ranges, dr_strength)
        if sampler is not None:
            self.set_sampler(sampler)
        self._allocate(n)
        self._make_spaces()
        self.first_world = first_world
        self.world = world if world is not None else _bullet_worlds(task, n)
        self.closed = False
        if self.world.n != n:
            raise WorldError(f"world: it has {self.world.n} worlds; accepted is a world of n = {n}")
        self._effects = TaskEffects(task, n, self.world.substeps, self._noise)

    # ---- what is randomized

    def set_randomization(self, ranges: Ranges | None, dr_strength: float = 1.0) -> None:
        """Sample from these ranges (None: nominal), in each world from its next reset on."""
        space = self.task.parameters
        if ranges is None:
            ranges = Ranges.nominal(space)
        elif ranges.space.names != space.names:
            raise RangeError(f"ranges: they are for {list(ranges.space.names)}; this task has {list(space.names)}")
        self._ranges: tuple[Ranges, float] | None = (ranges, dr_strength)
        self._sampler: Sampler = UniformSampler(ranges, dr_strength, self.seed)

    def set_sampler(self, sampler: Sampler) -> None:
        """Take parameters from `sampler`, in each world from its next reset on."""
        self._ranges, self._sampler = None, sampler

    # ---- where the worlds are in their random streams

    @property
    def first_world(self) -> int:
        """Global number of world 0. A new value needs a `reset`."""
        return int(self._worlds[0])

    @first_world.setter
    def first_world(self, value: int) -> None:
        self._worlds = value + np.arange(self.num_envs)
        self._running = False

    @property
    def episodes(self) -> np.ndarray:
        """(n,) number of each world's current episode; set it to the ones the next `reset` is to begin."""
        return self._episodes.copy()

    @episodes.setter
    def episodes(self, value: np.ndarray) -> None:
        self._episodes = np.broadcast_to(np.asarray(value, np.int64), (self.num_envs,)).copy()
        self._fresh, self._running = True, False

    @property
    def steps(self) -> np.ndarray:
        """(n,) control steps made in the current episode."""
        return self._steps.copy()

    @property
    def parameters(self) -> np.ndarray:
        """(n, d) parameter values of the current episode, in the order of the task's parameters."""
        return self._parameters.copy()

    def normals(self, stream: Stream) -> np.ndarray:
        """(n, size) standard normals, of the step that comes now, of one of the `streams`."""
        return self._noise[stream]

    # ---- Gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin an episode in every world: the first ones, those set in `episodes`, or else the next ones.

        A seed replaces the one given before and starts again at episode 0, unless `episodes` was just set.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._seed(seed)
            if self._ranges is not None:
                self.set_randomization(*self._ranges)
            if not self._fresh:
                self._episodes[:] = 0
        elif not self._fresh:
            self._episodes += 1
        self._fresh, self._running = False, True
        self._begin(np.ones(self.num_envs, bool))
        return self._observe(), {"parameters": self._parameters.copy()}

    def step(self, actions: np.ndarray):
        """Advance every world by one control period under `actions` (n, action_size) in [-1, 1]."""
        task, effects = self.task, self._effects
        action = self._checked(actions)

        command = task.command(action)
        profile = np.repeat(command[:, None].astype(np.float64), self.world.substeps, axis=1)
        profile = effects.delivered(profile)
        moved = self.world.step(profile, effects.extra_s(), effects.forces(self._true))
        self._true = replace(moved, goal=self._true.goal) if task.goal_size else moved
        self._steps += 1
        self._noise.advance(self._random, self._worlds, self._episodes, self._steps)
        measured = effects.measured(self._true)

        reward = task.reward(measured, action)
        self._returns += reward
        if not np.isfinite(reward).all():
            raise WorldError(self._diverged(reward, measured))
        if task.hold_steps:
            self._held = np.where(task.holding(measured), self._held + 1, 0)
        terminated = task.failed(measured)
        truncated = self._steps >= task.max_steps
        truncated &= ~terminated
        self._history.push(task.frame(measured, action))
        obs = self._observe()

        ended = terminated | truncated
        info: dict[str, Any] = {}
        if ended.any():
            info = self._ending(ended, obs, measured)
            self._episodes[ended] += 1
            self._begin(ended)
            obs = self._observe()
        return obs, reward, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        self.world.close()

    # ---- inside

    def _seed(self, seed: int) -> None:
        self.seed = int(seed)
        self._random = KeyedRandom(self.seed)

    def _allocate(self, n: int) -> None:
        task = self.task
        self._episodes = np.zeros(n, np.int64)
        self._steps = np.zeros(n, np.int64)
        self._returns = np.zeros(n, np.float64)
        self._held = np.zeros(n, np.int64)  # steps for which the task has been holding
        self._parameters = np.tile(task.parameters.nominal, (n, 1))
        self._known = np.ones((n, 1 + len(task.parameters)), np.float32)  # privileged columns of the episode
        self._history = HistoryStack(n, task.history, task.frame_size)
        self._state_scale = task.true_state_scale()
        shapes = ((len(task.joints),),) * 2 + ((len(task.bodies), 7), (len(task.bodies), 6), (task.goal_size,))
        self._true = State(*(np.zeros((n, *shape), np.float32) for shape in shapes))
        self._noise = NoiseAhead()
        self._fresh, self._running = True, False

    def _make_spaces(self) -> None:
        task, n = self.task, self.num_envs
        widths = {"policy": task.policy_size, "privileged": task.privileged_size}
        self._size = sum(widths[group] for group in self._groups)
        self.group_slices: dict[str, slice] = {}  # which columns of the observation each group has
        start = 0
        for group in self._groups:
            self.group_slices[group] = slice(start, start + widths[group])
            start += widths[group]
        self.single_observation_space = Box(-np.inf, np.inf, (self._size,), np.float32)
        self.observation_space = Box(-np.inf, np.inf, (n, self._size), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (task.action_size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (n, task.action_size), np.float32)

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if not self._running:
            raise WorldError("step: the worlds have no current episode; call reset() first")
        action = np.asarray(actions, np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"actions: shape {action.shape} does not fit; accepted is {self.action_space.shape}")
        if not np.isfinite(action).all():
            raise ValueError("actions: some are not finite; accepted are numbers in [-1, 1]")
        return np.minimum(np.maximum(action, -1.0), 1.0)

    def _begin(self, mask: np.ndarray) -> None:
        """Start the current episode of the worlds in `mask`."""
        task, rows = self.task, mask.nonzero()[0]
        world, episode = self._worlds[rows], self._episodes[rows]
        self._steps[rows] = 0
        self._returns[rows] = 0.0
        self._held[rows] = 0
        self._parameters[rows] = values = self._sampler.sample(world, episode)
        self._known[rows, 1:] = task.parameters.scaled(values)
        start = task.initial(self._random.uniform("initial", world, episode, task.initial_size))
        start = task.settle(start, values)
        self._true = start if len(rows) == self.num_envs else _scatter(self._true, rows, start)
        self.world.reset(mask, self._true, self._parameters)

        self._effects.begin(mask, rows, values)
        streams = self._effects.streams + self._streams
        self._noise.begin(self._random, streams, self._worlds, self._episodes, self._steps, rows)
        measured = self._effects.measured(start, rows)
        frame = np.empty((self.num_envs, task.frame_size), np.float32)
        frame[rows] = task.frame(measured, np.zeros((len(rows), task.action_size), np.float32))
        self._history.reset(mask, frame)

    def _observe(self) -> np.ndarray:
        """(n, size) observation of the groups asked for, in an array of its own."""
        if self._groups == ("policy",):
            return self._history.value.copy()
        obs = np.empty((self.num_envs, self._size), np.float32)
        if "policy" in self._groups:
            obs[:, self.group_slices["policy"]] = self._history.value
        if "privileged" in self._groups:
            privileged = obs[:, self.group_slices["privileged"]]
            known, joints = self._known.shape[1], 2 * len(self.task.joints)
            privileged[:, :known] = self._known
            state = privileged[:, known:]
            state[:, : joints // 2], state[:, joints // 2 : joints] = (
                self._true.joint_position,
                self._true.joint_velocity,
            )
            if self.task.bodies:
                bodies = state[:, joints:].reshape(len(state), -1, 13)
                bodies[:, :, :7], bodies[:, :, 7:] = self._true.body_pose, self._true.body_twist
                state[:, joints:] = bodies.reshape(len(state), -1)
            state *= self._state_scale
        return obs

    def _diverged(self, reward: np.ndarray, measured: State) -> str:
        i = int(np.flatnonzero(~np.isfinite(reward))[0])
        values = dict(zip(self.task.parameters.names, self._parameters[i].tolist(), strict=True))
        return (
            f"reward: world {self._worlds[i]} gave {reward[i]} at {measured.joint_position[i].tolist()} "
            f"with {values}; accepted are parameter ranges in which the simulation stays finite"
        )

    def _ending(self, ended: np.ndarray, obs: np.ndarray, measured: State) -> dict[str, Any]:
        columns = {
            "final_obs": obs,
            "success": self.task.success(measured, self._steps) & (self._held >= self.task.hold_steps) & ended,
            "episode_return": np.where(ended, self._returns, 0.0),
            "episode_steps": np.where(ended, self._steps, 0),
            "parameters": self._parameters.copy(),
        }
        return {**columns, **{f"_{key}": ended.copy() for key in columns}}


def _scatter(state: State, rows: np.ndarray, part: State) -> State:
    """A copy of `state` with `rows` replaced by `part`."""

    def merged(whole: np.ndarray, piece: np.ndarray) -> np.ndarray:
        if not piece.size:
            return whole
        whole = whole.copy()
        whole[rows] = piece
        return whole

    return State(
        merged(state.joint_position, part.joint_position),
        merged(state.joint_velocity, part.joint_velocity),
        merged(state.body_pose, part.body_pose),
        merged(state.body_twist, part.body_twist),
        merged(state.goal, part.goal),
    )


def _bullet_worlds(task: Task, n: int) -> World:
    from envs.bullet import BulletWorlds  # only now, so that importing this module stays light

    return BulletWorlds(task, n)
