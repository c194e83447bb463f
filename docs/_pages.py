"""Pages made from the classes while the documentation is built: one per kind of method, recipe and evidence."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunewright import catalog, recipe
from tunewright.catalog import Method
from tunewright.cli import app
from tunewright.report import evidence

PLURALS = {
    "augment": "Augmentations",
    "adapter": "Adapters",
    "objective": "Objectives",
    "optimizer": "Optimizers",
    "schedule": "Schedules",
    "vocabulary": "Vocabularies",
    "decoder": "Decoders",
}
KEYS = {
    "task": "evaluate",
    **{kind: key for key, kind in recipe.LISTS.items()},
    **{kind: ".".join(place) for place, kind in recipe.NESTED.items()},
    "format": "data.format",
    "augment": "data.augment",
}
"""The recipe key under which a kind stands, where it is not the kind's own name."""

KINDS = [kind for kind in catalog.ROOMS if kind != "claim"]
"""The kinds that a recipe names, each with a page; claims have a board of their own."""

RECIPE = {
    "model": recipe.ModelSpec,
    "model.add_tokens": recipe.AddedTokens,
    "data": recipe.DataSpec,
    "data.sources": recipe.SourceSpec,
    "train": recipe.TrainSpec,
    "train.early_stop": recipe.EarlyStop,
}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the made pages into the navigation, and the log where there is one."""
    assert config.nav is not None
    config.nav += [
        {
            "Methods": [
                *({title(kind): f"methods/{kind}.md"} for kind in KINDS),
                {"What composes with what": "methods/composition.md"},
            ]
        },
        {"Reference": [{"Recipe": "reference/recipe.md"}, {"Evidence": "reference/evidence.md"}]},
    ]
    if (Path(config.docs_dir) / "log.md").is_file():
        config.nav.append({"Log": "log.md"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the made pages."""
    pages = {f"methods/{kind}.md": kind_page(kind) for kind in KINDS}
    pages |= {"methods/composition.md": composition_page()}
    pages |= {"reference/recipe.md": recipe_page(), "reference/evidence.md": evidence_page()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def title(kind: str) -> str:
    """The heading of a kind's page."""
    return PLURALS.get(kind, f"{kind.capitalize()}s")


def composition_page() -> str:
    """The pairs of methods that a recipe refuses, from what the methods declare; all others compose."""
    methods = [
        method()
        for kind in KINDS
        if kind != "task"
        for method in catalog.methods(kind)
        if not any(field.is_required() for field in method.model_fields.values())
    ]
    rows = []
    for one in methods:
        for kind, traits in one.wants.items():
            others = [other for other in methods if other.kind == kind]
            fitting = [f"`{other.name}`" for other in others if traits <= other.traits]
            apart = [f"`{other.name}`" for other in others if not traits <= other.traits]
            if apart:
                wanted = ", ".join(sorted(traits))
                rows.append(
                    f"| `{one.name}` ({one.kind}) | {kind}: {wanted} | {', '.join(fitting) or 'none'} | {', '.join(apart)} |"
                )
    return "\n".join(
        [
            "# What composes with what",
            "",
            "Methods of different kinds compose unless one declares otherwise. A recipe is checked before anything is",
            "loaded; these are the pairs at their defaults that it refuses, and what it offers instead.",
            "",
            "| method | wants the other to be | composes with | refused with |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def kind_page(kind: str) -> str:
    """All methods of a kind: what each does, its options, its needs and its papers."""
    methods = list(catalog.methods(kind))
    key = KEYS.get(kind, kind)
    lines = [f"# {title(kind)}", "", f"Methods for the recipe's key `{key}`, from their classes.", ""]
    lines += ["| method | what it does |", "|---|---|"]
    lines += [f"| [{method.name}](#{method.name}) | {cell(method.summary())} |" for method in methods]
    for method in methods:
        lines += ["", f"## {method.name}", "", *method_body(method, key)]
    return "\n".join(lines) + "\n"


def method_body(method: type[Method], key: str) -> list[str]:
    """Description, example, options, needs and papers of one method."""
    word = "task" if method.kind == "task" else "method"
    needs = sorted(method.model_construct().needs)
    papers = [
        f'<a href="https://arxiv.org/abs/{paper.arxiv}">{escape(paper.title)}</a>'
        if paper.arxiv
        else escape(paper.title)
        for paper in method.papers
    ]
    named = f"{{{word}: {method.name}}}"
    lines = [prose(inspect.getdoc(method) or ""), "", "```yaml", f"{key}: {f'[{named}]' if word == 'task' else named}"]
    lines += ["```", "", options(method)]
    if needs:
        lines += ["", f"Needs, under `supplies`: {', '.join(needs)}."]
    if papers:
        lines += ["", f"<p>Paper: {'; '.join(papers)}</p>"]
    return lines


def recipe_page() -> str:
    """Every key of a recipe with its type, default and meaning."""
    lines = ["# Recipe", "", "Every key is optional but `model` and `data`. Keys that hold methods: "]
    lines[-1] += ", ".join(f"[{KEYS.get(kind, kind)}](../methods/{kind}.md)" for kind in KINDS) + "."
    for key, section in RECIPE.items():
        lines += ["", f"## {key}", "", prose(inspect.getdoc(section) or ""), "", options(section)]
    return "\n".join(lines) + "\n"


def evidence_page() -> str:
    """Every field of `evidence.json`."""
    parts = [evidence.Evidence] + [
        part
        for part in vars(evidence).values()
        if isinstance(part, type) and issubclass(part, evidence.Part) and part not in (evidence.Part, evidence.Evidence)
    ]
    lines = ["# Evidence", "", "The fields of `evidence.json`. A number that is not finite is null."]
    for part in parts:
        lines += ["", f"## {part.__name__}", "", prose(inspect.getdoc(part) or ""), "", options(part)]
    return "\n".join(lines) + "\n"


def options(model: type[BaseModel]) -> str:
    """The fields of a model as a table."""
    rows = [
        f"<tr><td><code>{name}</code></td><td>{words(field.annotation)}{bounds(field)}</td>"
        f"<td>{default(field)}</td><td>{marked(field.description or '')}</td></tr>"
        for name, field in model.model_fields.items()
    ]
    if not rows:
        return "It has no options."
    head = "<tr><th>field</th><th>type</th><th>default</th><th>meaning</th></tr>"
    return f'<div class="fields"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def words(kind: Any) -> str:
    """A type as a reader writes it in YAML or JSON."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in inner)
    if origin in (Union, types.UnionType):
        return " | ".join("null" if item is type(None) else words(item) for item in inner)
    if origin in (tuple, list):
        return f"list of {words(inner[0])}"
    if origin is not None and issubclass(origin, Iterable) and len(inner) == 2:
        return f"{words(inner[0])} to {words(inner[1])}"
    if hasattr(kind, "__metadata__"):
        return words(inner[0])
    if issubclass(kind, recipe.Section):
        return "options, below"
    names = {str: "text", int: "integer", float: "number", bool: "true | false"}
    return names.get(kind) or escape(getattr(kind, "__name__", str(kind)))


def bounds(field: FieldInfo) -> str:
    """The limits of a numeric field."""
    found = [
        f"{sign} {getattr(item, name)}"
        for item in field.metadata
        for name, sign in SIGNS.items()
        if hasattr(item, name)
    ]
    return f", {escape(' and '.join(found))}" if found else ""


def default(field: FieldInfo) -> str:
    """The default as it is written, or that there is none."""
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        return "their defaults"
    shown = {None: "null", True: "true", False: "false", (): "[]"}.get(value) if not isinstance(value, dict) else "{}"
    if value in (0, 1) and not isinstance(value, bool):
        shown = str(value)
    return f"<code>{escape(shown or str(value))}</code>"


def prose(text: str) -> str:
    """Plain text as paragraphs; indented lines and tables stay as they are written."""
    made = []
    for part in text.split("\n\n"):
        kept = part.startswith((" ", "|"))
        made.append(f"<pre><code>{escape(part)}</code></pre>" if kept else f"<p>{marked(' '.join(part.split()))}</p>")
    return "\n\n".join(made)


def marked(text: str) -> str:
    """Escaped text with `code` marked."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return marked(text).replace("|", "&#124;").replace("*", "&#42;").replace("_", "&#95;")


def on_page_markdown(markdown: str, **around: Any) -> str:
    """Puts every command with its arguments and options where a page asks for them."""
    return markdown.replace("<!-- commands -->", commands(typer.main.get_command(app), "tunewright"))


def commands(group: Any, called: str) -> str:
    """A section per command of a group, and of the groups in it."""
    made = []
    for name, command in group.commands.items():
        full = f"{called} {name}"
        if hasattr(command, "commands"):
            made.append(commands(command, full))
            continue
        rows = [
            f"<tr><td><code>{escape(' / '.join([*item.opts, *item.secondary_opts]))}</code></td>"
            f"<td>{marked(getattr(item, 'help', '') or '')}</td></tr>"
            for item in command.params
        ]
        table = f'<div class="fields options"><table><tbody>{"".join(rows)}</tbody></table></div>' if rows else ""
        made.append(f"## {full}\n\n{prose(inspect.cleandoc(command.help or ''))}\n\n{table}")
    return "\n\n".join(made)
