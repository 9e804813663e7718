"""`python -m robot.twin`: run one twin. Prints one JSON line, {"ready": {...}} or {"error": "..."}."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from robot.interface import RobotError
from robot.serve import serve_twin


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m robot.twin", description=__doc__)
    parser.add_argument("--hidden", type=Path, help="YAML file of hidden values (default: the shipped reality)")
    parser.add_argument("--task", default="cartpole", help="whose robot to stand in for")
    parser.add_argument("--mode", choices=("lockstep", "realtime"), default="lockstep")
    parser.add_argument("--control-hz", type=float, help="in lockstep, what a command lasts (default: as in the task)")
    parser.add_argument("--directory", type=Path, help="where the bus and the technician's socket appear")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input closes")
    arguments = parser.parse_args()
    if arguments.lifeline:  # the owner decides when this ends, not a Ctrl-C that is meant for the owner
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve_twin(
            arguments.hidden,
            arguments.mode,
            arguments.directory,
            ready=lambda where: print(json.dumps({"ready": where}), flush=True),
            task=arguments.task,
            control_hz=arguments.control_hz,
            lifeline=sys.stdin.fileno() if arguments.lifeline else None,
        )
    except RobotError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
