"""Every registered order keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.data.order import MFTMultitaskLoss
from tunewright.testing.orders import OrderContract


class TestEveryOrder(OrderContract):
    @pytest.fixture(params=catalog.names("order"))
    def method(self, request):
        return catalog.find("order", request.param)()


SETTINGS = {
    "rows": {"mode": "sample"},
    "focal": {"mode": "focal"},
    "speed": {"scheme": "speed", "famo_lr": 0.5},
    "speed by rows": {"mode": "task_sample", "scheme": "speed", "update_every": 3},
    "slope": {"scheme": "slope", "coba_warmup": 2, "coba_history": 3, "held_out": 2},
    "focal slope": {"mode": "focal", "scheme": "slope", "coba_warmup": 2},
}


class TestBalancedTasks(OrderContract):
    @pytest.fixture(params=SETTINGS)
    def method(self, request):
        return MFTMultitaskLoss(**SETTINGS[request.param])
