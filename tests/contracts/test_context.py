"""Every registered context keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.models.context import LongLoRA
from tunewright.testing.contexts import ContextContract
from tunewright.testing.effects import usual


class TestEveryContext(ContextContract):
    @pytest.fixture(params=catalog.names("context"))
    def method(self, request):
        return usual(catalog.find("context", request.param))


class TestSmallGroups(ContextContract):
    @pytest.fixture(params=[1 / 64, 1 / 16, 1 / 4])
    def method(self, request):
        return LongLoRA(length=256, group_ratio=request.param)
