"""The history stack, against the obvious list of frames."""

import numpy as np
import pytest

from envs.history import HistoryStack


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_equals_a_list_of_frames(frames):
    rng = np.random.default_rng(0)
    stack, n, size = HistoryStack(3, frames, 2), 3, 2
    lists: list[list[np.ndarray]] = [[np.zeros(size)] * frames for _ in range(n)]
    kept = []
    for _ in range(30):
        frame, mask = rng.normal(size=(n, size)).astype(np.float32), rng.random(n) < 0.3
        value = stack.push(frame)
        for i in range(n):
            lists[i] = [*lists[i][1:], frame[i]]
        assert np.array_equal(value, [np.concatenate(frames_of) for frames_of in lists])
        kept.append((value, value.copy()))
        fresh = rng.normal(size=(n, size)).astype(np.float32)
        value = stack.reset(mask, fresh)
        for i in np.flatnonzero(mask):
            lists[i] = [fresh[i]] * frames
        assert np.array_equal(value, [np.concatenate(frames_of) for frames_of in lists])
        assert value.dtype == np.float32
    assert all(np.array_equal(value, copy) for value, copy in kept)  # what was handed out is never changed
