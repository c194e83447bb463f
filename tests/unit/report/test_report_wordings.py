from io import StringIO
from pathlib import Path

from rich.console import Console

from tunewright.report.chain import heat_map
from tunewright.report.charts import by_example, by_format
from tunewright.report.console import show_chain
from tunewright.report.evidence import Formats, FormatScore, Sensitivity


def test_formats_are_drawn_in_the_order_of_the_base_models_accuracy():
    scores = [("as it is", 0.5, 0.9), ("Q: TEXT", 0.2, 0.8), ("TEXT!", None, 0.7)]
    made = Formats(task="format_spread", formats=tuple(FormatScore(format=f, before=b, after=a) for f, b, a in scores))
    drawn = by_format(made)
    before, after = (part.split('"')[0] for part in drawn.split('<path class="dots ')[1:3])
    assert before == "second" and after == "main"
    assert drawn.count("h0") == 5 and "format spread" in drawn and "nan" not in drawn


def test_sensitivities_are_drawn_over_the_share_of_examples():
    drawn = by_example(Sensitivity(task="prompt_sensitivity", before=(0.1, 0.2), after=(0.0, 0.3)))
    assert "M250.0" in drawn and "L750.0" in drawn and "75%" in drawn


def test_a_heat_map_frames_what_was_just_trained_and_shades_by_column():
    ends = [[None, None], [[0.8, 0.95], None], [None, [0.6, 0.75]]]
    drawn = heat_map(["a", "b"], [[0.1, 0.2], [0.9, 0.2], [0.5, 0.7]], ends)
    assert drawn.count("<small>") == 2 and "0.900<br><small>[0.800, 0.950]</small>" in drawn
    assert drawn.count(" own'") == 2 and "after base" in drawn
    assert drawn.count("--heat:70%") == 2 and drawn.count("--heat:0%") == 3 and "--heat:35%" in drawn


def test_the_terminal_shows_a_chains_scores_with_their_intervals():
    found = {
        "stages": ["a", "b"], "verdict": "forgetting", "quantities": [("final", 0.5, "mean")],
        "matrix": [[0.1, 0.2], [0.9, 0.2], [0.5, 0.7]],
        "intervals": [[None, None], [[0.8, 0.95], None], [None, [0.6, 0.75]]],
    }  # fmt: skip
    console = Console(width=100, record=True, file=StringIO())
    show_chain(found, Path("chain"), console)
    drawn = console.export_text()
    assert "0.900 [0.800, 0.950]" in drawn and "0.700 [0.600, 0.750]" in drawn and "after base" in drawn
