"""The code that the documents show works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_about_new_tasks_makes_one_that_works(tmp_path):
    """A URDF and one Task file, in under 80 lines, and a controller that solves nearly all of its worlds."""
    (urdf,) = blocks("new_task.md", "xml")
    task, use = blocks("new_task.md", "python")
    lines = urdf.count("\n") + sum(1 for line in task.splitlines() if line)
    assert lines < 80 and f"({lines} lines" in (DOCS / "new_task.md").read_text(encoding="utf-8")
    (tmp_path / "turntable.urdf").write_text(urdf)
    (tmp_path / "turntable.py").write_text(task)
    (tmp_path / "use.py").write_text(use)
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[1]) > 0.8
    train = [sys.executable, "-m", "pipeline.cli", "params", "turntable:Turntable"]
    listed = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True)
    assert listed.returncode == 0 and "table.mass_kg" in listed.stdout, listed.stderr
