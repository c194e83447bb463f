"""Every registered format keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.formats import FormatContract


class TestEveryFormat(FormatContract):
    @pytest.fixture(params=catalog.names("format"))
    def method(self, request):
        return catalog.find("format", request.param)()
