"""Every registered decoder keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.decoders import DecoderContract


class TestEveryDecoder(DecoderContract):
    @pytest.fixture(params=catalog.names("decoder"))
    def method(self, request):
        return catalog.find("decoder", request.param)()
