"""Every registered augmentation keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.augment import AugmentContract
from tunewright.testing.effects import usual


class TestEveryAugment(AugmentContract):
    @pytest.fixture(params=catalog.names("augment"))
    def method(self, request):
        return usual(catalog.find("augment", request.param))
