"""Every registered optimizer keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.optimizers import OptimizerContract


class TestEveryOptimizer(OptimizerContract):
    @pytest.fixture(params=catalog.names("optimizer"))
    def method(self, request):
        return catalog.find("optimizer", request.param)()
