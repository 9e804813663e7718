"""The command `sim2real identify camera`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.identify.camera.board import Board
    from pipeline.identify.camera.optics import Optics
    from pipeline.identify.camera.place import Place


def camera(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE…]", help="More pictures, as a shell writes out *.png.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", metavar="FOLDER|FILE", help="Pictures of the board; as often as you like."),
    ] = None,
    board: Annotated[
        str, typer.Option("--board", metavar="COLUMNSxROWS", help="Inner corners: 9x6 for 10 x 7 squares.")
    ] = "9x6",
    square_mm: Annotated[
        float, typer.Option("--square-mm", metavar="MM", help="Side of one square, measured on the printed board.")
    ] = 25.0,
    pose_image: Annotated[
        Path | None,
        typer.Option(
            "--pose-image", metavar="FILE", help="A picture of the board at --board-pose: where the camera is."
        ),
    ] = None,
    board_pose: Annotated[
        str | None,
        typer.Option(
            "--board-pose",
            metavar="X,Y,Z,YAW",
            help="Where it is in the task's frame, face up: its first corner in m, its x axis in degrees; or "
            "X,Y,Z,QX,QY,QZ,QW.",
        ),
    ] = None,
    robot_poses: Annotated[
        Path | None,
        typer.Option(
            "--robot-poses",
            metavar="FILE.csv",
            help="image,x,y,z,qx,qy,qz,qw of the flange in the base frame at each picture, the flange "
            "holding the board: where the camera is.",
        ),
    ] = None,
    on_robot: Annotated[
        bool,
        typer.Option("--on-robot", help="With --robot-poses: the flange holds the camera, the board stands still."),
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the result; plots go beside it.")
    ] = Path("camera.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """A camera's focal lengths, centre and distortion from pictures of a checkerboard, and where it stands.

    Writes camera.yaml and a page of plots; says which pictures were refused and why, and which to add.
    """
    from pipeline.identify.camera import advice
    from pipeline.identify.camera.board import find, find_all, parse_board, pictures
    from pipeline.identify.camera.optics import calibrate
    from pipeline.identify.camera.page import write_page
    from pipeline.identify.camera.place import from_one, hand_eye, parse_pose, read_poses
    from robot.interface import RobotError

    if not (images or more):
        raise RobotError("images: none given; accepted is --images FOLDER, or pictures of a checkerboard")
    if (pose_image is None) != (board_pose is None):
        raise RobotError("pose-image: accepted is --pose-image together with --board-pose, where the board lies in it")
    if on_robot and robot_poses is None:
        raise RobotError("on-robot: given without poses of a robot; accepted with it is --robot-poses FILE.csv")
    shape = parse_board(board, square_mm)
    known = None if board_pose is None else parse_pose(board_pose)
    poses = None if robot_poses is None else read_poses(robot_poses)
    views, refused = find_all(pictures([*(images or []), *(more or [])]), shape)
    if not as_json or len(views) < 3:
        for sentence in refused:
            typer.echo(sentence, err=True)
    optics, odd = calibrate(views, shape)
    if not as_json:
        for sentence in odd:
            typer.echo(sentence, err=True)
    content = to_dict(optics, shape, [*refused, *odd], advice.advice(optics))
    if pose_image is not None and known is not None:
        content["place"] = place_dict(from_one(find(pose_image, shape), shape, optics, known))
    elif poses is not None:
        have = [view for view in optics.views if view.source in poses]
        place, held = hand_eye(have, [poses[view.source] for view in have], shape, optics, on_robot)
        content["place"] = place_dict(place)
        content["place"]["board_in_" + ("base" if on_robot else "flange")] = [_round(x) for x in _numbers(held)]
    _save(content, output)
    page = output.with_suffix(".png")
    write_page(optics, page)
    if as_json:
        typer.echo(json.dumps(content))
    else:
        _tell(content)
        typer.echo(f"{output} and {page}")


def to_dict(optics: Optics, board: Board, refused: list[str], said: list[str]) -> dict[str, Any]:
    """Plain values in the layout of camera.yaml; docs/identification.md describes it."""
    from pipeline.identify.camera.optics import NAMES, UNITS

    ends = zip(NAMES, optics.value, optics.interval, strict=True)
    return {
        "format": 1,
        "size_px": list(optics.size),
        "board": {"columns": board.columns, "rows": board.rows, "square_m": board.square_m},
        "values": {
            name: {"value": _round(value), "low": _round(low), "high": _round(high), "unit": UNITS[name]}
            for name, value, (low, high) in ends
        },
        "camera_matrix": [[_round(x) for x in row] for row in optics.matrix],
        "distortion": [_round(x) for x in optics.distortion],  # k1, k2, p1, p2, k3
        "rms_px": _round(optics.rms_px),
        "pictures": {
            view.source: {"rms_px": _round(rms), "blur_px": _round(view.blur_px)}
            for view, rms in zip(optics.views, optics.view_rms_px, strict=True)
        },
        "refused": refused,
        "advice": said,
    }


def place_dict(place: Place) -> dict[str, Any]:
    return {
        "frame": place.frame,
        "position_m": [_round(x) for x in place.pose.position_m],
        "quaternion_xyzw": [_round(x) for x in place.pose.rotation.as_quat(canonical=True)],
        "position_95_m": [_round(x) for x in place.position_95_m],
        "rotation_95_deg": _round(place.rotation_95_deg),
        "rms_px": _round(place.rms_px),
    }


def _tell(content: dict[str, Any]) -> None:
    for name, entry in content["values"].items():
        fitted = "not fitted" if entry["low"] == entry["high"] else f"[{entry['low']:.5g}, {entry['high']:.5g}]"
        typer.echo(f"{name:4} {entry['value']:12.6g} {entry['unit']:3} {fitted}")
    typer.echo(f"{len(content['pictures'])} pictures, rms {content['rms_px']:.3f} px")
    if place := content.get("place"):
        position, wide = place["position_m"], place["position_95_m"]
        each = ", ".join(f"{p:.4f} ± {w:.4f}" for p, w in zip(position, wide, strict=True))
        typer.echo(
            f"camera in the frame of the {place['frame']}: x, y, z = {each} m, ± {place['rotation_95_deg']:.2f} deg"
        )
        typer.echo(f"quaternion xyzw {place['quaternion_xyzw']}, rms {place['rms_px']:.3f} px")
    for sentence in content["advice"]:
        typer.echo(f"add: {sentence}")


def _save(content: dict[str, Any], path: Path) -> None:
    import yaml

    from robot import durable

    durable.write(path, yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True).encode())


def _numbers(pose: Any) -> list[float]:
    return [*pose.position_m.tolist(), *pose.rotation.as_quat(canonical=True).tolist()]


def _round(value: float) -> float:
    return float(f"{float(value):.6g}")
