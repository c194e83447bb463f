"""A whole run of the pipeline on a tiny model and a few rows, and what it shows."""

import contextlib
import io
import json

import pytest
import torch

from tunewright import pipeline
from tunewright.data import cache
from tunewright.errors import Fault
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny_folder


def prepared(folder):
    """A folder with a tiny model and rows to train on."""
    tiny_folder(folder / "model", max_position_embeddings=256)
    tiny_folder(folder / "another", "gpt2", n_positions=256)
    sums = [{"prompt": f"{n} + {n % 7} =", "completion": f" {n + n % 7}" * (1 + n % 3)} for n in range(60)]
    told = [{"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
            for row in sums]  # fmt: skip
    files = {
        "rows": sums[:24],
        "more": sums[24:36],
        "held": sums[36:42],
        "long": [*sums[:23], {"prompt": "a long one", "completion": " yes" * 20}],
        "twice": sums[:12] * 2,
        "chat": told[:24],
        "odd": [{"body": row["prompt"], "headline": row["completion"]} for row in sums[:24]],
        "both": [{"text": f"{row['prompt']} {n}", **row} for n, row in enumerate(sums[:24])],
        "classes": [{"text": row["prompt"], "label": n % 2} for n, row in enumerate(sums[:24])],
    }
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "template.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    (folder / "change.py").write_text("def change(row):\n    return {**row, 'completion': ' 7'}\n")
    return folder


def keys_of(folder, changes):
    """The recipe of the usual tiny run with dotted `changes`; `{folder}` in a value stands for the folder."""
    changes = json.loads(json.dumps(changes).replace("{folder}", str(folder)))
    source = {"path": str(folder / "rows.jsonl")}
    other = {"path": str(folder / "more.jsonl")}
    keys = {
        "model": {"path": str(folder / "model")},
        "data": {"train": [source, other]},
        "adapter": {"method": "lora", "rank": 4},
        "optimizer": {"method": "adamw", "lr": 1e-2},
        "train": {"epochs": 1.0, "tokens_per_step": 160, "trackers": (), "rehearsal": False, "precision": "bf16"},
        "evaluate": [],
    }
    for place, value in changes.items():
        *path, last = place.split(".")
        inner = keys
        for step in path:
            inner = inner[int(step)] if isinstance(inner, list) else inner.setdefault(step, {})
        inner[int(last) if isinstance(inner, list) else last] = value
        if place in ("train.steps", "train.tokens"):
            keys["train"].pop("epochs", None)
    return keys


def observe(folder, changes, scratch):
    """What a run with these changes shows, by observable."""
    said = io.StringIO()
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stderr(said):
            run = pipeline.run(Recipe.of(**keys_of(folder, changes)), scratch)
    except Fault as fault:
        return {"error": str(fault).replace(str(scratch), "")}
    lines = [json.loads(line) for line in (scratch / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    data, assembly = run.assembly.data, run.assembly
    special = [(number, token.special) for number, token in assembly.loaded.tokenizer.added_tokens_decoder.items()]
    timeless = [{k: v for k, v in line.items() if "second" not in k} for line in lines]
    told = [
        line for line in said.getvalue().replace("\r", "\n").splitlines() if "it/s" not in line and "tok/s" not in line
    ]
    return {
        "error": "",
        "loss": [line["loss"] for line in steps],
        "gradient": [line["gradient_norm"] for line in steps],
        "steps": len(steps),
        "tokens": (data.train.ids.tolist(), data.train.weights.tolist(), special),
        "parameters": assembly.policy.model.get_input_embeddings().weight.shape[0],
        "files": [*_files(scratch), *(["cached"] if any(cache.home().rglob("*.npy")) else [])],
        "output": (_weights(run), [str(record.answer) for record in data.eval_records]),
        "log": (
            timeless,
            [line.split("(")[0] for line in told if "tok" not in line],
            str(assembly.settings),
            data.names,
        ),
        "bytes": _saved(assembly, scratch),
    }


def _files(folder):
    """Names of the files below a folder; those of trackers carry the time and stand for one."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted({"tensorboard" if "tfevents" in name else name for name in names})


def _weights(run):
    return {name: value.flatten().tolist() for name, value in run.assembly.attached.state().items()}


def _saved(assembly, scratch):
    """Bytes that one micro-batch keeps for its backward pass."""
    loop = pipeline.build_loop(assembly, scratch)
    loop.policy.train()
    kept = []

    def note(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loop.losses(loop.batches(0)[0])
    return sum(kept)


def runner(folder, scratch):
    """`observe` with a fresh output folder each time."""
    numbers = iter(range(10_000))

    def run(changes):
        place = scratch / str(next(numbers))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(cache.VARIABLE, str(place) + "-cache")
            return observe(folder, changes, place)

    return run
