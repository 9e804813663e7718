"""Hardware that is not there: the few calls of other people's libraries that the drivers make, on one small physics.

These are stand-ins for a call contract, not for a robot.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np


class Cart:
    """A mass of 1 kg on a rail and a stiff hinge; counts what moved it, and can lose its cable."""

    def __init__(self) -> None:
        self.x = self.v = self.effort = 0.0
        self.on = False
        self.motions: list[float] = []  # every effort or goal that reached it
        self.cut = False
        self.at = time.monotonic()

    def touch(self) -> None:
        if self.cut:
            raise ConnectionError("the cable is out")

    def drive(self, effort: float) -> None:
        self.touch()
        self.motions.append(effort)
        self.v, self.x = self.v + 0.02 * effort, self.x + 0.02 * self.v


class FakeEnvironment(gymnasium.Env):
    """An environment that owns a robot; one unit of its action is 10 N."""

    cart = Cart()
    observation_space = gymnasium.spaces.Dict(
        {"hinge": gymnasium.spaces.Box(-9, 9, (2,)), "slider": gymnasium.spaces.Box(-9, 9, (2,))}
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)
    lasts = 10**9

    def _seen(self) -> dict[str, np.ndarray]:
        return {"hinge": np.zeros(2), "slider": np.array([1e3 * self.cart.x, 1e3 * self.cart.v])}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        self.cart.touch()
        self.cart.on = True
        self.steps = 0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> Any:
        self.cart.drive(10 * float(action[0]))
        self.steps += 1
        return self._seen(), 0.0, False, self.steps >= self.lasts, {}

    def stop(self) -> bool:
        self.cart.touch()
        self.cart.on, self.cart.v = False, 0.0
        return True


ENVIRONMENT = {
    "environment": "tests.robot.drivers.fakes:FakeEnvironment",
    "stop_method": "stop",
    "allow_reset": True,
    "joints": {"slider": {"position": 2, "velocity": 3, "scale": 1e-3}, "hinge": {"position": 0, "velocity": 1}},
    "drives": {"slider": {"column": 0, "scale": 10.0}},
}


class FakeBus:
    def __init__(self, cart: Cart) -> None:
        self.cart = cart

    def enable_torque(self) -> None:
        self.cart.touch()
        self.cart.on = True

    def disable_torque(self) -> None:
        self.cart.touch()
        self.cart.on, self.cart.v = False, 0.0

    def sync_read(self, name: str, normalize: bool = True) -> dict[str, int]:
        assert name == "Torque_Enable" and not normalize
        return {"slider": int(self.cart.on)}


class FakeLeRobot:
    """LeRobot's shape: degrees in and out, one joint per key. `calibrate` would ask at the terminal."""

    cart = Cart()
    calibrated = True
    most = 1e9  # like max_relative_target: what is sent may be less than what was asked

    def __init__(self, name: str = "arm") -> None:
        self.name, self.is_connected = name, False
        self.bus = FakeBus(self.cart)
        self.observation_features = {"slider.pos": float, "hinge.pos": float, "front": (48, 64, 3)}
        self.action_features = {"slider.pos": float, "slider.eff": float}

    @property
    def is_calibrated(self) -> bool:
        return self.calibrated

    def connect(self, calibrate: bool = True) -> None:
        assert not calibrate, "connecting must not calibrate: that asks and moves"
        self.cart.touch()
        self.is_connected = True

    def get_observation(self) -> dict[str, Any]:
        self.cart.touch()
        return {"slider.pos": self.cart.x * 1e3, "hinge.pos": 10.0, "front": np.zeros((48, 64, 3), np.uint8)}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.cart.touch()
        sent = {**action, "slider.eff": float(np.clip(action["slider.eff"], -self.most, self.most))}
        if sent["slider.eff"]:
            self.cart.drive(sent["slider.eff"] / 100)
        return sent

    def disconnect(self) -> None:
        self.bus.disable_torque()
        self.is_connected = False


LEROBOT = {
    "robot": "tests.robot.drivers.fakes:FakeLeRobot",
    "arguments": {"name": "mine"},
    "joints": {"slider": {"position": "slider.pos", "scale": 1e-3}, "hinge": {"position": "hinge.pos", "zero": 10.0}},
    "drives": {"slider": {"action": "slider.eff", "scale": 0.01, "range": [-900, 900]}},
    "stop": "torque_off",
}


class FakeReceive:
    """rtde_receive.RTDEReceiveInterface, as far as the driver uses it."""

    cart = Cart()
    protective = emergency = False

    def __init__(self, host: str, hz: float) -> None:
        self.cart.touch()

    def isConnected(self) -> bool:  # noqa: N802
        return not self.cart.cut

    def getActualQ(self) -> list[float]:  # noqa: N802
        return [0.0, 0.0, self.cart.x, 0.0, 0.0, 0.0]

    def getActualQd(self) -> list[float]:  # noqa: N802
        return [0.0, 0.0, self.cart.v, 0.0, 0.0, 0.0]

    def getTimestamp(self) -> float:  # noqa: N802
        return self.cart.at if self.cart.at < 0 else time.monotonic()

    def isProtectiveStopped(self) -> bool:  # noqa: N802
        return type(self).protective

    def isEmergencyStopped(self) -> bool:  # noqa: N802
        return type(self).emergency

    def disconnect(self) -> None: ...


class FakeControl:
    """rtde_control.RTDEControlInterface, as far as the driver uses it. Nothing moves before `setWatchdog`."""

    cart = Cart()
    safe = True
    watched_hz = 0.0

    def __init__(self, host: str, hz: float) -> None:
        self.cart.touch()
        type(self).watched_hz = 0.0
        self.cart.on = True

    def isJointsWithinSafetyLimits(self, position: list[float]) -> bool:  # noqa: N802
        return len(position) == 6 and type(self).safe

    def setWatchdog(self, hz: float) -> bool:  # noqa: N802
        type(self).watched_hz = hz
        return True

    def kickWatchdog(self) -> bool:  # noqa: N802
        return True

    def directTorque(self, torque: list[float]) -> bool:  # noqa: N802
        assert type(self).watched_hz > 0 and len(torque) == 6
        if not self.cart.on or FakeReceive.protective:
            return False
        self.cart.drive(torque[2])
        return True

    def stopScript(self) -> None:  # noqa: N802
        self.cart.touch()
        self.cart.on, self.cart.v = False, 0.0

    def disconnect(self) -> None: ...


UR = {"joints": {"slider": 2, "hinge": 3}}


def fresh_cart() -> Cart:
    """A new cart behind all of them, and every switch where it was."""
    cart = Cart()
    for kind in (FakeEnvironment, FakeLeRobot, FakeReceive, FakeControl):
        kind.cart = cart
    FakeLeRobot.calibrated, FakeLeRobot.most = True, 1e9
    FakeReceive.protective = FakeReceive.emergency = False
    FakeControl.safe = True
    FakeEnvironment.lasts = 10**9
    return cart
