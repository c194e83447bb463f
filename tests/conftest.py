"""One processor thread, so that sums are added in one order, and readable assertions in the shipped contracts."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
pytest.register_assert_rewrite("tunewright.testing")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)
