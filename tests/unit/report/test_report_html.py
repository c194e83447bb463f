import re
from html.parser import HTMLParser

import pytest
import report_samples as samples

from tunewright.report import html

MADE = [samples.ordinary, samples.hard, samples.single, samples.nothing]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Counts tags, collects attributes, and checks that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page(made, tmp_path):
    metrics = samples.metrics(tmp_path / "metrics.jsonl", 60)
    return Page(html.write(tmp_path, made(), metrics, samples.RECIPE).read_text("utf-8"))


@pytest.mark.parametrize("made", MADE)
def test_the_file_needs_nothing_else(made, tmp_path):
    shown = page(made, tmp_path)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & set(shown.tags)
    for tag, name, value in shown.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "data", "poster"), (tag, name)
        assert name != "href" or value.startswith("#"), (tag, value)
    source = (tmp_path / html.FILE).read_text("utf-8")
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style and "@import" not in style and "http" not in style


@pytest.mark.parametrize("made", MADE)
def test_every_element_is_closed_and_every_link_has_its_section(made, tmp_path):
    shown = page(made, tmp_path)
    assert shown.open == []
    anchors = {value for _, name, value in shown.attributes if name == "id"}
    assert {value[1:] for _, name, value in shown.attributes if name == "href"} <= anchors


def test_user_text_is_shown_as_it_is_and_never_run(tmp_path):
    shown = page(samples.hard, tmp_path)
    assert samples.SCRIPT in shown.text
    assert "script" not in shown.tags and "img" not in shown.tags


def test_an_ordinary_report_has_all_sections(tmp_path):
    shown = page(samples.ordinary, tmp_path)
    sections = {value for tag, name, value in shown.attributes if (tag, name) == ("section", "id")}
    assert sections == {"measures", "curves", "examples", "calibration", "data", "cost", "hardest", "recipe"}
    for words in ("+61.3 points", "78.1%", "no difference found", "Planned", "655 MB", "+7%", "2 min 31 s", "Warning."):
        assert words in shown.text
    assert "Training loss" in shown.text and "Learning rate" in shown.text
    assert "tokens_per_step" in shown.text and "2.13.0" in shown.text


def test_a_report_without_measures_says_so(tmp_path):
    shown = page(samples.nothing, tmp_path)
    assert "Nothing was measured: the recipe asks for no evaluation" in shown.text
    assert "table" not in shown.tags


def test_a_run_without_metrics_has_no_curves(tmp_path):
    text = html.render(samples.single(), tmp_path / "none.jsonl", samples.RECIPE)
    assert 'id="curves"' not in text


def test_examples_mark_only_the_words_that_differ(tmp_path):
    source = html.render(samples.ordinary(), tmp_path / "none.jsonl", samples.RECIPE)
    assert "19 - 4 = <del>15</del> shells. #### <del>15</del>" in source
    assert "19 - 4 = <ins>16</ins> shells. #### <ins>16</ins>" in source


def test_regressions_stand_in_the_order_of_the_evidence(tmp_path):
    source = html.render(samples.ordinary(), tmp_path / "none.jsonl", samples.RECIPE)
    tags = re.findall(r'class="chip (better|worse)">[▲▼] (?:better|worse)<', source)
    assert tags == ["worse", "worse", "better", "better", "better"]


def test_control_characters_are_shown_as_signs(tmp_path):
    source = html.render(samples.hard(), tmp_path / "none.jsonl", samples.RECIPE)
    assert "␀␛[31mred" in source and not re.search(r"[\x00-\x08\x0b-\x1f]", source)


def test_a_text_of_any_length_stays_readable(tmp_path):
    evidence = samples.single().model_copy(update={"verdict": "x" * 100_000})
    source = html.render(evidence, tmp_path / "none.jsonl", samples.RECIPE)
    assert "80,000 more characters in evidence.json" in source


def test_the_peak_of_every_phase_is_told(tmp_path):
    assert (
        "Peak memory by phase Phase Peak memory Loading 402 MB Training 612 MB" in page(samples.ordinary, tmp_path).text
    )
    assert "by phase" not in page(samples.nothing, tmp_path).text


def test_peaks_so_far_and_those_of_an_accelerator_are_named(tmp_path):
    def made():
        evidence = samples.ordinary()
        phases = [
            samples.PhasePeak(phase="loading", peak_memory_bytes=10**9, device_memory_bytes=7 * 10**9, so_far=True),
            samples.PhasePeak(phase="training", peak_memory_bytes=10**9, device_memory_bytes=None, so_far=True),
        ]
        return evidence.model_copy(update={"cost": evidence.cost.model_copy(update={"peak_by_phase": phases})})

    shown = page(made, tmp_path).text
    assert "one peak for the whole process" in shown
    assert "Phase Peak memory so far On the accelerator Loading 1.0 GB 7.0 GB Training 1.0 GB –" in shown
