"""A checkerboard, and where its inner corners are in a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.interface import RobotError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
MOST_BLUR_PX = 5.0  # width of an edge from 10 to 90 %, beyond which corners wander
LEAST_SPACING_PX = 10.0  # between neighbouring corners
LEAST_CONTRAST = 25.0  # grey levels between black and white squares
TOO_BRIGHT = 254.0
SAME_SHARE = 0.004  # of the picture's width: views whose corners differ by less say the same twice


def opencv() -> Any:
    """The module cv2; raises RobotError naming the extra where it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise RobotError(
            f"camera calibration needs OpenCV, which cannot be imported ({error}); "
            "accepted is an installation with the extra: pip install 'sim2real[camera]'"
        ) from error
    return cv2


@dataclass(frozen=True)
class Board:
    """`columns` x `rows` inner corners, where four squares meet, `square_m` apart."""

    columns: int
    rows: int
    square_m: float

    @property
    def points_m(self) -> np.ndarray:
        """(columns * rows, 3) corners row by row in the board's frame.

        Origin at the first corner, x along the first row, y towards where a row before it would be, z out of the board
        towards who looks at it. The square inside the first corner is black.
        """
        row, column = np.divmod(np.arange(self.columns * self.rows), self.columns)
        return np.stack([column, -row, np.zeros(len(row))], 1) * self.square_m

    @property
    def has_one_way_up(self) -> bool:
        """Whether it looks different when turned by half a turn."""
        return (self.columns + self.rows) % 2 == 1


@dataclass(frozen=True)
class View:
    """One picture in which the board was found."""

    source: str
    size: tuple[int, int]  # width, height, px
    corners: np.ndarray  # (columns * rows, 2) px, centre of the upper left pixel at (0, 0)
    blur_px: float


def parse_board(text: str, square_mm: float) -> Board:
    """From `9x6`; raises RobotError with a sentence for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None or min(int(match[1]), int(match[2])) < 3:
        raise RobotError(
            f"board: {text!r} is not understood; accepted is COLUMNSxROWS of inner corners, each 3 or more, such as "
            "9x6 for a board of 10 x 7 squares"
        )
    if not 0.1 <= square_mm <= 1000.0:
        raise RobotError(f"square-mm: {square_mm:g}; accepted is the side of one square, 0.1 to 1000 mm")
    return Board(int(match[1]), int(match[2]), square_mm * 1e-3)


def pictures(paths: Sequence[Path]) -> list[Path]:
    """Every picture among the files and in the folders given, by name; raises RobotError where there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            found.append(path)
        else:
            raise RobotError(f"images: {path} does not exist; accepted are pictures and folders of them")
    if not found:
        named = ", ".join(str(path) for path in paths)
        raise RobotError(f"images: no picture in {named}; accepted are files ending in {', '.join(SUFFIXES)}")
    return list(dict.fromkeys(found))


def find_all(paths: Sequence[Path], board: Board) -> tuple[list[View], list[str]]:
    """Views that can be used, and a sentence on every other picture."""
    views: list[View] = []
    refused: list[str] = []
    for path in paths:
        try:
            view = find(path, board)
            if views and view.size != views[0].size:
                raise RobotError(
                    f"{path.name}: {_by(view.size)} pixels, while {views[0].source} has {_by(views[0].size)}; "
                    "a calibration is of one camera at one resolution"
                )
            if twin := _same_as(view, views):
                raise RobotError(f"{path.name}: shows the board where {twin.source} does, and adds nothing; move it")
        except RobotError as error:
            refused.append(str(error))
        else:
            views.append(view)
    return views, refused


def find(path: Path, board: Board) -> View:
    """The board in one picture; raises RobotError with a sentence on why it cannot be used."""
    cv2 = opencv()
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise RobotError(f"{path} cannot be read: {error.strerror or error}") from error
    grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
    if grey is None:
        raise RobotError(f"{path.name}: is no picture, or damaged")
    shape = (board.columns, board.rows)
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY
    found, corners = cv2.findChessboardCornersSB(grey, shape, flags=flags)
    if not found:
        found, corners = cv2.findChessboardCornersSB(grey, shape, flags=flags | cv2.CALIB_CB_EXHAUSTIVE)
    if not found:
        raise RobotError(
            f"{path.name}: no board of {board.columns}x{board.rows} inner corners is seen; the whole board with its "
            "white border has to be in the picture, sharp, evenly lit and flat"
        )
    corners = _ordered(np.asarray(corners, float).reshape(-1, 2), grey, board)
    spacing = float(np.median(np.linalg.norm(np.diff(corners.reshape(board.rows, board.columns, 2), axis=1), axis=2)))
    if spacing < LEAST_SPACING_PX:
        raise RobotError(f"{path.name}: the board is too small, its corners {spacing:.1f} px apart; bring it closer")
    (blur, dark, bright, _), _ = cv2.estimateChessboardSharpness(grey, shape, corners.astype(np.float32)[:, None])
    if bright - dark < LEAST_CONTRAST:
        raise RobotError(
            f"{path.name}: black and white differ by {bright - dark:.0f} of 255 grey levels; light it more"
        )
    if dark >= TOO_BRIGHT:
        raise RobotError(f"{path.name}: overexposed, black squares are white; shorten the exposure")
    if blur > MOST_BLUR_PX:
        raise RobotError(
            f"{path.name}: blurred, edges are {blur:.1f} px wide and at most {MOST_BLUR_PX:g} are accepted; "
            "focus, hold the board still, or shorten the exposure"
        )
    return View(path.name, (grey.shape[1], grey.shape[0]), corners, float(blur))


def _ordered(corners: np.ndarray, grey: np.ndarray, board: Board) -> np.ndarray:
    """Row by row clockwise as seen, beginning where the square inside is black, if only one end has such a square."""
    grid = corners.reshape(board.rows, board.columns, 2)
    along, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if along[0] * down[1] - along[1] * down[0] < 0:
        grid = grid[:, ::-1]
    if board.has_one_way_up and _inside(grid, grey) > _inside(grid[::-1, ::-1], grey):
        grid = grid[::-1, ::-1]
    return grid.reshape(-1, 2).copy()


def _inside(grid: np.ndarray, grey: np.ndarray) -> float:
    """Grey level around the middle of the square inside the first corner, less that of its neighbour in the row."""
    levels = []
    for column in (0, 1):
        x, y = np.round(grid[:2, column : column + 2].mean((0, 1))).astype(int)
        levels.append(float(grey[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean()))
    return levels[0] - levels[1]


def _same_as(view: View, others: Sequence[View]) -> View | None:
    most = SAME_SHARE * view.size[0]
    return next((o for o in others if np.abs(o.corners - view.corners).max() < most), None)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
