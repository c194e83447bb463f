"""Every registered regularizer keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.regularizers import RegularizerContract


class TestEveryRegularizer(RegularizerContract):
    @pytest.fixture(params=catalog.names("regularizer"))
    def method(self, request):
        return catalog.find("regularizer", request.param)()
