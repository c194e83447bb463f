"""Every registered adapter keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.adapters import AdapterContract


class TestEveryAdapter(AdapterContract):
    @pytest.fixture(params=catalog.names("adapter"))
    def method(self, request):
        return catalog.find("adapter", request.param)()
