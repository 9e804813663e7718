"""Forces on links and bodies of PyBullet worlds."""

from __future__ import annotations

from dataclasses import dataclass

from envs.bullet_loading import p


@dataclass(frozen=True)
class Push:
    """A force for each client on a link or body, in the world frame; it acts at the centre of mass."""

    bodies: dict[int, int]  # client -> number of the body
    link: int  # -1: the base
    forces: dict[int, list[float]]  # client -> N

    def act(self, client: int) -> None:
        """Act through the next engine call of this client."""
        body, force = self.bodies[client], self.forces[client]
        if any(force):
            if self.link < 0:
                centre = p.getBasePositionAndOrientation(body, client)[0]
            else:
                centre = p.getLinkState(body, self.link, False, True, client)[0]
            p.applyExternalForce(body, self.link, force, centre, p.WORLD_FRAME, client)
