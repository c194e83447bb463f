"""The methods of the documentation's page are short, register by being in a file, and keep the contract of their kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunewright import catalog
from tunewright.recipe import Recipe
from tunewright.testing.checking import check_file

PAGE = Path(__file__).parents[3] / "docs" / "own-methods.md"
BLOCKS = {
    heading.lower(): code
    for heading, code in re.findall(r"^## (\w+)\n\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.M | re.S)
}


@pytest.fixture(autouse=True)
def nothing_added(monkeypatch) -> None:
    """Every test registers the page's methods anew."""
    monkeypatch.setattr(catalog, "_added", {})


def test_there_is_one_of_each_kind() -> None:
    assert set(BLOCKS) == set(catalog.ROOMS)


@pytest.mark.parametrize("kind", BLOCKS)
def test_each_is_whole_in_thirty_lines(kind, tmp_path) -> None:
    lines = [line for line in BLOCKS[kind].splitlines() if line.strip()]
    assert len(lines) <= 30, f"{len(lines)} lines"
    file = tmp_path / f"own_{kind}.py"
    file.write_text(BLOCKS[kind])
    [made] = catalog.defined(catalog.use(file))
    assert made.kind == kind and catalog.find(kind, made.name) is made
    assert made.__name__ in BLOCKS[kind] and made.summary().endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in BLOCKS if kind not in ("claim", "vocabulary")])
def test_each_keeps_the_contract_of_its_kind(kind, tmp_path) -> None:
    file = tmp_path / f"own_{kind}.py"
    file.write_text(BLOCKS[kind])
    findings = list(check_file(file))
    assert findings and not [one for one in findings if one.fault]


def test_a_new_file_is_all_that_a_recipe_needs(tmp_path) -> None:
    """No file of the package knows of it, and yet it is resolved, checked and refused by its options' names."""
    file = tmp_path / "mine.py"
    file.write_text(BLOCKS["schedule"].replace("polynomial", "mine_alone").replace("Polynomial", "MineAlone"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    keys = {"model": "nano", "data": str(rows), "use": [str(file)]}
    made = Recipe.of(**keys, schedule={"method": "mine_alone", "power": 3.0})
    assert made.schedule.name == "mine_alone" and made.plain()["schedule"]["power"] == 3.0
    source = Path(catalog.__file__).parent
    assert not [path for path in source.rglob("*.py") if "mine_alone" in path.read_text("utf-8")]
    with pytest.raises(Exception, match="power"):
        Recipe.of(**keys, schedule={"method": "mine_alone", "powr": 3.0})


def test_a_file_in_a_kinds_folder_is_all_that_the_package_needs(tmp_path, monkeypatch) -> None:
    """The catalog finds a class by its folder and file name; nothing lists it."""
    from tunewright.optimize import schedules

    (tmp_path / "polynomial_found.py").write_text(
        BLOCKS["schedule"].replace("polynomial", "polynomial_found").replace("Polynomial", "PolynomialFound")
    )
    places = [*schedules.__path__, str(tmp_path)]
    monkeypatch.setattr(schedules, "__path__", places)
    monkeypatch.setattr(schedules.__spec__, "submodule_search_locations", places)
    assert "polynomial_found" in catalog.names("schedule")
    assert catalog.find("schedule", "polynomial_found").summary()
