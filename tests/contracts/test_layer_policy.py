"""Every registered layer policy keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.layers import LayersContract


class TestEveryLayerPolicy(LayersContract):
    @pytest.fixture(params=catalog.names("layers"))
    def method(self, request):
        return catalog.find("layers", request.param)()
