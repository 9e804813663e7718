"""Calibration of a camera: what is known is found inside its intervals, and bad pictures are told in sentences."""

from __future__ import annotations

import builtins
from dataclasses import replace

import numpy as np
import pytest
import yaml

from pipeline import cli
from pipeline.identify.camera.advice import advice
from pipeline.identify.camera.board import Board, View, find, parse_board
from pipeline.identify.camera.optics import calibrate
from pipeline.identify.camera.place import Pose, from_one, hand_eye
from robot.interface import RobotError
from tests.pipeline.checkerboards import (
    BOARD,
    DISTORTION,
    MATRIX,
    SIZE,
    Camera,
    facing,
    project,
    spread_poses,
    write,
)

TRUE = np.concatenate([MATRIX[[0, 1, 0, 1], [0, 1, 2, 2]], DISTORTION])


def seen(poses, random, noise_px=0.1) -> list[View]:
    """Views whose corners are the true ones, but for noise."""
    return [
        View(f"{k}.png", SIZE, project(pose) + random.normal(0, noise_px, (54, 2)), 2.0) for k, pose in enumerate(poses)
    ]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A folder of eight good pictures and five that cannot be used, and where the boards were."""
    folder, random, camera = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), Camera()
    poses = spread_poses(8, random)
    for k, pose in enumerate(poses):
        write(folder, f"view{k:02d}.png", camera.picture(pose, random))
    write(folder, "x_again.png", camera.picture(poses[3], random))
    write(folder, "x_blur.png", camera.picture(poses[0], random, blur_px=5.0))
    write(folder, "x_far.png", camera.picture(facing(0, 0, 1.6), random))
    write(folder, "x_none.png", np.full((SIZE[1], SIZE[0]), 90, np.uint8))
    (folder / "x_torn.png").write_bytes(b"\x89PNG nothing else")
    return folder, poses, camera


def test_a_rendered_camera_is_found_inside_its_intervals(rendered, tmp_path, monkeypatch, capsys):
    folder, poses, _ = rendered
    monkeypatch.chdir(tmp_path)
    place = folder / "view02.png"
    at = facing(0.1, 0.2, 0.9, 4.0, -3.0, 200.0)  # any pose will do for where the board lies
    where = ",".join(f"{x:.9f}" for x in (*at.position_m, *at.rotation.as_quat()))
    arguments = ["identify", "camera", "--images", str(folder), "--pose-image", str(place), f"--board-pose={where}"]
    assert cli.main(arguments) == 0
    told = capsys.readouterr()
    for name, words in (
        ("x_again.png", "where view03.png does"),
        ("x_blur.png", "blurred"),
        ("x_far.png", "too small"),
        ("x_none.png", "no board of 9x6"),
        ("x_torn.png", "no picture"),
    ):
        assert any(line.startswith(name) and words in line for line in told.err.splitlines()), name
    content = yaml.safe_load((tmp_path / "camera.yaml").read_text())
    assert len(content["pictures"]) == 8 and len(content["refused"]) == 5 and (tmp_path / "camera.png").exists()
    for name, true in zip(content["values"], TRUE, strict=True):
        entry = content["values"][name]
        assert entry["low"] <= true <= entry["high"], name
    fx = content["values"]["fx"]
    assert fx["high"] - fx["low"] < 0.03 * fx["value"] and content["rms_px"] < 0.25
    camera = at @ poses[2].inverse()
    off = np.abs(np.array(content["place"]["position_m"]) - camera.position_m)
    assert (off < 1.5 * np.array(content["place"]["position_95_m"])).all() and off.max() < 0.01


def test_corners_are_found_in_the_order_of_the_board(rendered):
    folder, _, camera = rendered
    random = np.random.default_rng(1)
    for turn in (100.0, 185.0):
        pose = facing(0.0, 0.0, 0.4, 10.0, 10.0, turn)
        corners = find(write(folder.parent, f"turned{turn:g}.png", camera.picture(pose, random)), BOARD).corners
        assert np.abs(corners - project(pose)).max() < 0.8


def test_intervals_hold_what_is_true():
    inside, random = [], np.random.default_rng(2)
    for _ in range(25):
        found, _ = calibrate(seen(spread_poses(12, random), random), BOARD)
        inside.append((found.interval[:8, 0] <= TRUE[:8]) & (TRUE[:8] <= found.interval[:8, 1]))
    share = np.mean(inside, 0)
    assert (share >= 0.8).all() and share.mean() > 0.93, share


def test_pictures_that_cannot_tell_are_refused():
    random = np.random.default_rng(3)
    with pytest.raises(RobotError, match="5 can be used, and at least 6 are needed"):
        calibrate(seen(spread_poses(5, random), random), BOARD)
    flat = [facing(x, y, 0.35) for x in (-0.08, 0.0, 0.08) for y in (-0.05, 0.0, 0.05)]
    with pytest.raises(RobotError, match="too alike; tilt the board"):
        calibrate(seen(flat, random, 0.2), BOARD)
    views = seen(spread_poses(10, random), random)
    views[4] = replace(views[4], corners=views[4].corners + 4 * np.sin(views[4].corners / 40))
    found, odd = calibrate(views, BOARD)
    assert len(found.views) == 9 and len(odd) == 1 and odd[0].startswith("4.png: its corners lie")


def test_it_says_which_views_to_add():
    random = np.random.default_rng(4)
    poses = [p for p in spread_poses(120, random, 12.0) if project(p)[:, 0].max() < 0.64 * SIZE[0]][:9]
    poses += [facing(-0.05, 0.0, 0.4, up=30.0)]
    said = " ".join(advice(calibrate(seen(poses, random, 0.02), BOARD)[0]))
    assert "10 were used" in said and "upper right, right, lower right" in said
    assert "about the picture's vertical axis" in said and "horizontal axis" not in said
    many, _ = calibrate(seen(spread_poses(40, random), random), BOARD)
    assert advice(many) == []


@pytest.mark.parametrize("on_robot", [False, True])
def test_a_camera_is_found_from_poses_of_the_robot(on_robot):
    random = np.random.default_rng(5)
    boards = spread_poses(14, random)
    found, _ = calibrate(seen(boards, random), BOARD)
    camera, held = Pose.of(np.array([0.3, -2.0, 0.4, 0.8, 0.1, 0.6])), Pose.of(np.array([0.1, 0.2, -1.5, 0.02, 0, 0.1]))
    chain = [camera @ board @ held.inverse() for board in boards]
    poses = [pose.inverse() for pose in chain] if on_robot else chain
    place, board = hand_eye(found.views, poses, BOARD, found, on_robot)
    off = np.abs(place.pose.position_m - camera.position_m)
    assert place.frame == ("flange" if on_robot else "base")
    assert off.max() < 0.004 and (off < 3 * place.position_95_m).all()
    assert np.degrees((place.pose.rotation.inv() * camera.rotation).magnitude()) < 0.5
    assert np.abs(board.position_m - held.position_m).max() < 0.004
    with pytest.raises(RobotError, match="about one axis only"):
        hand_eye(found.views, [chain[0]] * 14, BOARD, found, on_robot)


def test_a_square_board_tells_no_frame():
    random = np.random.default_rng(6)
    views = seen(spread_poses(8, random), random)
    found, _ = calibrate(views, BOARD)
    with pytest.raises(RobotError, match="looks the same upside down"):
        from_one(views[0], Board(9, 7, 0.025), found, facing(0, 0, 0))


def test_what_cannot_be_meant_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.png", np.zeros((20, 20), np.uint8))
    (tmp_path / "poses.csv").write_text("image,x,y\n")
    for arguments, words in (
        ([], "images: none given"),
        (["--images", "none"], "images: none does not exist"),
        (["--images", str(tmp_path / "poses.csv")], "poses.csv: is no picture"),
        (["a.png", "--board", "9"], "board: '9' is not understood"),
        (["a.png", "--square-mm", "0"], "square-mm: 0"),
        (["a.png", "--pose-image", "a.png"], "together with --board-pose"),
        (["a.png", "--pose-image", "a.png", "--board-pose", "1,2"], "board-pose: '1,2'"),
        (["a.png", "--robot-poses", "poses.csv"], "no column z, qx, qy, qz, qw"),
        (["a.png", "--on-robot"], "--robot-poses"),
        (["a.png"], "0 can be used"),
    ):
        assert cli.main(["identify", "camera", *arguments]) == cli.EXIT_USER
        assert words in capsys.readouterr().err
    with pytest.raises(RobotError, match="0.1 to 1000 mm"):
        parse_board("9x6", 1e9)


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def absent(name, *arguments, **others):
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", absent)
    (tmp_path / "a.png").write_bytes(b"x")
    assert cli.main(["identify", "camera", str(tmp_path / "a.png")]) == cli.EXIT_USER
    assert "sim2real[camera]" in capsys.readouterr().err
