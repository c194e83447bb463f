"""Methods are found by folder and name, a user's own among them."""

import textwrap

import pytest

from tunewright import adapters, catalog
from tunewright.catalog import Method
from tunewright.errors import BadInput
from tunewright.optimize import optimizers, schedules
from tunewright.recipe import Recipe

SCHEDULE = """
    from typing import ClassVar
    from tunewright.catalog import option
    from tunewright.optimize.schedules.base import Schedule

    class Halving(Schedule):
        "Halves every `every` steps.\\n\\nMore about it."
        name: ClassVar[str] = "{name}"
        every: int = option(10, "Steps.", changes="loss", to=2, ge=1)

        def after(self, step, total):
            return 0.5 ** (step // self.every)
"""


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(catalog, "_added", {})


def write(path, text, **values):
    path.write_text(textwrap.dedent(text).format(**values) if values else textwrap.dedent(text))
    return path


@pytest.mark.parametrize("kind", catalog.ROOMS)
def test_every_name_leads_to_a_class_of_its_kind(kind):
    assert catalog.names(kind) == sorted(catalog.names(kind))
    for name in catalog.names(kind):
        method = catalog.find(kind, name)
        assert issubclass(method, Method) and (method.name, method.kind) == (name, kind)
        assert method.summary().endswith("."), f"{name} says nothing about itself"


def test_mechanisms_are_not_methods():
    assert "base" not in catalog.names("adapter")
    assert not any(name.startswith("_") for kind in catalog.ROOMS for name in catalog.names(kind))


@pytest.mark.parametrize(("wrong", "meant"), [("lroa", "lora"), ("LoRA", "lora"), ("ful", "full")])
def test_the_nearest_name_is_offered(wrong, meant):
    with pytest.raises(BadInput, match=rf"no adapter is called '{wrong}'\. Did you mean '{meant}'\?"):
        catalog.find("adapter", wrong)


def test_without_a_near_name_all_are_listed():
    with pytest.raises(BadInput, match=r"Known: adafactor, adamw, .*lion, .*sgd\."):
        catalog.find("optimizer", "xyzzy")


def test_an_unknown_kind_has_no_methods():
    assert catalog.names("nonsense") == []
    with pytest.raises(BadInput, match="Known: none"):
        catalog.find("nonsense", "lora")


def test_packages_hand_on_classes():
    assert adapters.LoRA is catalog.find("adapter", "lora")
    assert schedules.InverseSqrt is catalog.find("schedule", "inverse_sqrt")
    for absent in ("Nothing", "lora", "lOrA"):
        with pytest.raises(AttributeError):
            getattr(adapters, absent)
    with pytest.raises(AttributeError):
        optimizers.Adamw  # noqa: B018


def test_a_new_file_in_the_house_is_a_method_without_any_edit(tmp_path, monkeypatch):
    folder = tmp_path / "own_schedules"
    (folder / "deeper").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "deeper" / "__init__.py").write_text("")
    write(folder / "deeper" / "halving.py", SCHEDULE, name="halving")
    write(folder / "_private.py", SCHEDULE, name="private")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(catalog.ROOMS, "schedule", "own_schedules")
    assert catalog.names("schedule") == ["halving"]
    assert catalog.find("schedule", "halving")(every=4).factor(9, 100) <= 1


def test_a_users_file_registers_its_methods(tmp_path, registry):
    write(tmp_path / "mine.py", SCHEDULE, name="halving")
    (tmp_path / "recipe.yaml").write_text(
        "model: nano\ndata: rows.jsonl\nuse: [mine.py]\nschedule: {method: halving, every: 3, warmup: 0}\n"
    )
    recipe = Recipe.read(tmp_path / "recipe.yaml")
    assert recipe.schedule.factor(3, 100) == 0.5
    assert "halving" in catalog.names("schedule")
    assert catalog.find("schedule", "halving").summary() == "Halves every `every` steps."
    again = Recipe.read(tmp_path / "recipe.yaml")
    assert again.schedule.model_dump() == recipe.schedule.model_dump()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SCHEDULE.format(name="cosine"), "the schedule 'cosine' exists already"),
        ("x = 1\n", "defines no method"),
        ("def broken(:\n", "importing it failed: SyntaxError"),
        ("import not_there_at_all\n", "importing it failed: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "importing it failed: SystemExit"),
        (
            "from tunewright.catalog import Method\nclass A(Method):\n    name = 'a'\n",
            "the method 'a' is of no known kind",
        ),
    ],
)
def test_a_users_file_that_cannot_be_used(tmp_path, registry, text, says):
    path = write(tmp_path / "user_file.py", text)
    with pytest.raises(BadInput) as caught:
        catalog.use(path)
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_a_users_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="cannot be read as a Python file"):
        catalog.use(tmp_path / "absent.py")


def test_two_user_files_of_one_name_do_not_hide_each_other(tmp_path, registry):
    for folder, name in (("a", "halving"), ("b", "halving")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mine.py", SCHEDULE, name=name)
    catalog.use(tmp_path / "a" / "mine.py")
    with pytest.raises(BadInput, match="exists already"):
        catalog.use(tmp_path / "b" / "mine.py")


def test_a_method_is_frozen_and_refuses_what_it_does_not_know():
    method = adapters.LoRA(rank=4)
    with pytest.raises(ValueError):
        method.rank = 8
    for wrong in ({"rnak": 4}, {"rank": 0}, {"alpha": float("nan")}, {"alpha": float("inf")}, {"dropout": 1.0}):
        with pytest.raises(ValueError):
            adapters.LoRA(**wrong)


def test_every_option_is_documented_and_declares_its_effect():
    for method in catalog.methods():
        for name, info in method.model_fields.items():
            assert info.description, f"{method.kind} {method.name}: '{name}' has no help"
            assert catalog.effect(info) is not None, f"{method.kind} {method.name}: '{name}' declares no effect"
