"""Every registered quantizer keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.quantizers import QuantizerContract


class TestEveryQuantizer(QuantizerContract):
    @pytest.fixture(params=catalog.names("quantizer"))
    def method(self, request):
        return catalog.find("quantizer", request.param)()
