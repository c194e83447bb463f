import pytest
import report_samples as samples

from tunewright.report import figures


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.number(1234567.0), "1,234,567"),
        (figures.number(0.012345), "0.01235"),
        (figures.number(None), "–"),
        (figures.percent(0.1684), "16.8%"),
        (figures.memory(612_000_000), "612 MB"),
        (figures.memory(999_600), "1.0 MB"),
        (figures.memory(512), "512 bytes"),
        (figures.count(9_999), "9,999"),
        (figures.count(5_214_208), "5.2 M"),
        (figures.operations(5.9e13), "59.0 TFLOP"),
        (figures.duration(2.14), "2.1 s"),
        (figures.duration(59.7), "1 min"),
        (figures.duration(151.4), "2 min 31 s"),
        (figures.duration(400_151), "4 d 15 h"),
        (figures.off(110, 100), "+10%"),
        (figures.off(None, 100), "–"),
        (figures.score(0.4), "0.4"),
    ],
)
def test_a_number_is_written_as_read(shown, expected):
    assert shown == expected


def test_shares_change_in_points_and_the_rest_in_its_own_unit():
    share = samples.measure("a", "target", "exact_match", 0.168, 0.781, 0.062, 9, True, "share")
    nats = samples.measure("b", "target", "loss", 12.5, 12.25, 0.1, 9, False, "nats")
    assert (figures.level(share, 0.781), figures.change(share, share.delta)) == ("78.1%", "+61.3")
    assert figures.interval(share) == "[+55.1, +67.5]"
    assert (figures.level(nats, 12.25), figures.change(nats, nats.delta)) == ("12.25", "-0.25")


def test_a_change_that_rounds_to_nothing_has_no_sign():
    measure = samples.measure("a", "target", "exact_match", 0.5, 0.49999, 0.1, 9, True, "share")
    assert figures.change(measure, measure.delta) == "0.0"
