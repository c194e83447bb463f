"""Every registered order keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.orders import OrderContract


class TestEveryOrder(OrderContract):
    @pytest.fixture(params=catalog.names("order"))
    def method(self, request):
        return catalog.find("order", request.param)()
