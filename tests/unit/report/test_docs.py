import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tunewright import catalog
from tunewright.recipe import Recipe

pytest.importorskip("mkdocs")
typer = pytest.importorskip("typer")

from mkdocs.commands.build import build  # noqa: E402
from mkdocs.config import load_config  # noqa: E402

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


KINDS = [kind for kind in catalog.ROOMS if kind != "claim"]


def test_every_claim_is_on_the_board_with_its_verdict(site):
    from tunewright import board

    page = (site / "claims.html").read_text("utf-8")
    for row in board.listed():
        assert f'id="{row["name"]}"' in page and (row["verdict"] or "not judged") in page


def test_every_method_is_on_its_kinds_page_with_every_field(site):
    for method in (method for kind in KINDS for method in catalog.methods(kind)):
        page = (site / "methods" / f"{method.kind}.html").read_text("utf-8")
        assert f'id="{method.name}"' in page
        for field in method.model_fields:
            assert f"<code>{field}</code>" in page, (method.name, field)


def test_every_command_is_documented_and_in_the_readme(site):
    from tunewright.cli import app

    def names(group, called):
        for name, command in group.commands.items():
            full = f"{called} {name}"
            yield from names(command, full) if hasattr(command, "commands") else [full]

    page = (site / "commands.html").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    for full in names(typer.main.get_command(app), "tunewright"):
        assert f">{full}<" in page and full in readme, full


def test_no_page_loads_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.search(r"<(script|img|iframe)[^>]+src=\"?(https?:)?//", text), page
        assert not re.search(r"<link[^>]+rel=\"?(stylesheet|preconnect|icon)\"?[^>]+href=\"?(https?:)?//", text), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_that_are_shown_resolve(page):
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        keys = YAML(typ="safe").load(block)
        if "model" in keys:
            assert Recipe.of(**keys).plain()["model"]["path"] == keys["model"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        made = target.startswith(("methods/", "reference/"))
        assert made or target.startswith("http") or (page.parent / target).exists(), target


def test_the_readme_names_methods_that_exist():
    """A table of examples: `tunewright methods` is the whole, so that a new method edits nothing."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme[readme.index("| part | among its methods |") : readme.index("| models | causal")]
    known = {method.name for kind in catalog.ROOMS for method in catalog.methods(kind)}
    assert (named := set(re.findall(r"`(\w+)`", table))) <= known, named - known


def test_the_objective_shown_as_an_example_works(tmp_path):
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    file = tmp_path / "focal.py"
    file.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("shown_focal", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    # p = e^2 / (e^2 + 1) = 0.8808 and 0.5: (1 - p)^2 * -ln p
    assert torch.allclose(module.Focal().value(logits, targets, {}), torch.tensor([0.00180, 0.17329]), atol=1e-5)
