"""Every registered objective keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.objectives import ObjectiveContract


class TestEveryObjective(ObjectiveContract):
    @pytest.fixture(params=catalog.names("objective"))
    def method(self, request):
        return catalog.find("objective", request.param)()
