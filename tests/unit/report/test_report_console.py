import report_samples as samples
from rich.console import Console

from tunewright.report import console, html


def printed(evidence, folder, width=100):
    out = Console(width=width, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.show(evidence, folder, out)
    return out.export_text()


def test_the_summary_holds_verdict_measures_warnings_cost_and_files(tmp_path):
    evidence = samples.ordinary()
    evidence.save(tmp_path)
    html.write(tmp_path, evidence, tmp_path / "none.jsonl", samples.RECIPE)
    text = printed(evidence, tmp_path, width=400)
    for words in (
        evidence.verdict, "number match", "16.8%", "78.1%", "+61.3 [+55.1, +67.5]", "no difference", "warning: 21",
        "1.8 M tokens in 2 min 31 s", "612 MB peak memory", f"report    {tmp_path / 'report.html'}",
    ):  # fmt: skip
        assert words in text, words
    assert "adapter" not in text.splitlines()[-1]


def test_markup_in_user_text_is_printed_as_it_is(tmp_path):
    evidence = samples.single().model_copy(update={"verdict": "[bold]x[/bold] [/nothing] [link=http://x]"})
    assert "[bold]x[/bold] [/nothing] [link=http://x]" in printed(evidence, tmp_path)


def test_nothing_measured_prints_no_table(tmp_path):
    text = printed(samples.nothing(), tmp_path)
    assert "Nothing was measured." in text and "before" not in text


def test_eighty_columns_are_enough(tmp_path):
    assert all(len(line) <= 80 for line in printed(samples.ordinary(), tmp_path / "r", width=80).splitlines())
