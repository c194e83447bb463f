"""The standing pair of processes."""

import pytest
from pair import Pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    made = Pair(tmp_path_factory.mktemp("pair"))
    yield made
    made.close()
