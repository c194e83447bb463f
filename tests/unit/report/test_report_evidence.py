import json
import math

import pytest
import report_samples as samples

from tunewright.errors import BadInput
from tunewright.evaluate.measure import Measure as Evaluated
from tunewright.report.evidence import Evidence, Measure


@pytest.mark.parametrize("made", [samples.ordinary, samples.hard, samples.single, samples.nothing])
def test_what_was_saved_is_what_is_loaded(made, tmp_path):
    evidence = Evidence.model_validate(made().model_dump())
    evidence.save(tmp_path)
    assert Evidence.load(tmp_path) == evidence


def test_saved_evidence_is_json_in_the_strict_sense(tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    path = samples.hard().save(tmp_path)
    loaded = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert loaded["measures"][-1]["before"] is None


def test_measures_and_cost_have_the_fields_others_read(tmp_path):
    loaded = json.loads(samples.ordinary().save(tmp_path).read_text("utf-8"))
    assert {"name", "kind", "metric", "before", "after", "delta", "low", "high", "n", "higher_is_better"} <= set(
        loaded["measures"][0]
    )
    assert set(loaded["cost"]) == {
        "tokens",
        "seconds",
        "tokens_per_second",
        "peak_memory_bytes",
        "train_flops",
        "peak_by_phase",
    }


def test_the_schema_describes_every_field():
    schema = Evidence.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    assert all("description" in field for part in parts for field in part.get("properties", {}).values())


def test_an_evaluated_measure_is_taken_with_its_finding():
    evaluated = Evaluated(
        name="exact_match", kind="target", metric="exact_match", before=0.1, after=0.4, delta=0.3, low=0.2, high=0.4,
        n=50, higher_is_better=True, unit="share",
    )  # fmt: skip
    measure = samples.nothing().model_validate({**samples.nothing().model_dump(), "measures": [evaluated]}).measures[0]
    assert (measure.finding, measure.tone, measure.unit) == ("better", "better", "share")


def test_a_value_that_is_not_finite_is_null():
    measure = samples.measure("p", "other", "perplexity", math.inf, 2.0, 1.0, 5, False, "score")
    assert measure.before is None and measure.low is None


@pytest.mark.parametrize(
    ("content", "field"), [('{"verdict": 3}', "verdict"), ('{"verdict": "x", "costs": {}}', None), ("no json", None)]
)
def test_a_file_that_is_not_evidence_is_named(content, field, tmp_path):
    path = tmp_path / "evidence.json"
    path.write_text(content)
    with pytest.raises(BadInput, match="not the evidence of a run") as caught:
        Evidence.load(path)
    assert caught.value.file == path
    assert field is None or caught.value.field == field


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        Evidence.load(tmp_path / "none.json")


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="extra"):
        Measure.model_validate({**samples.single().measures[0].model_dump(), "p_value": 0.1})
