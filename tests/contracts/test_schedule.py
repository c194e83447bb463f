"""Every registered schedule keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.testing.schedules import ScheduleContract


class TestEverySchedule(ScheduleContract):
    @pytest.fixture(params=catalog.names("schedule"))
    def method(self, request):
        return catalog.find("schedule", request.param)()
