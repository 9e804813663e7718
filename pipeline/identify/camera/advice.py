"""What views to add, in sentences."""

from __future__ import annotations

import numpy as np

from pipeline.identify.camera.optics import Optics

ENOUGH_VIEWS = 12
ENOUGH_TILT_DEG = 20.0
ENOUGH_DEPTH = 1.3  # farthest board over nearest
THIRDS = (("upper left", "upper middle", "upper right"), ("left", "middle", "right"))
REGIONS = (THIRDS[0], THIRDS[1], ("lower left", "lower middle", "lower right"))


def advice(optics: Optics) -> list[str]:
    """Sentences; none where the views are many, all over the picture, tilted each way, near and far."""
    said = []
    if len(optics.views) < ENOUGH_VIEWS:
        said.append(
            f"Take more pictures: {len(optics.views)} were used, and from {ENOUGH_VIEWS} on intervals are steady."
        )
    bare = [
        name
        for names, counts in zip(REGIONS, coverage(optics), strict=True)
        for name, n in zip(names, counts, strict=True)
        if not n
    ]
    if bare:
        said.append(
            f"No corner of the board was seen in the {', '.join(bare)} of the picture: hold it there, partly close to "
            "the edge; distortion is guessed where nothing was seen."
        )
    for axis, (name, ways) in enumerate((("vertical", "left and right"), ("horizontal", "up and down"))):
        tilt = optics.tilt_deg[:, axis]
        if max(tilt.max(), -tilt.min()) < ENOUGH_TILT_DEG:
            said.append(
                f"Tilt the board more about the picture's {name} axis, so that it faces {ways} by 20 to 45 degrees "
                f"(at most {max(tilt.max(), -tilt.min()):.0f} so far): the focal length comes from tilted boards."
            )
    depth = optics.translation_m[:, 2]
    if depth.max() < ENOUGH_DEPTH * depth.min():
        said.append("Hold the board at different distances, the farthest at least half as far again as the nearest.")
    return said


def coverage(optics: Optics) -> np.ndarray:
    """(3, 3) corners seen in each ninth of the picture, upper row first."""
    width, height = optics.size
    corners = np.concatenate([view.corners for view in optics.views])
    counts, _, _ = np.histogram2d(corners[:, 1], corners[:, 0], bins=3, range=[[0, height], [0, width]])
    return counts.astype(int)
