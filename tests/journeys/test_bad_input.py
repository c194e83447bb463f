"""Input that cannot be used: exit status 2, one message that names the place, and nothing made or overwritten."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import WORDS, call, pairs, rows_file, started, written
from command_line import ended as end
from safetensors.torch import load_file, save_file

GOOD = json.dumps({"prompt": "say red", "completion": "red"})


def tree(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(status, message, said, out=""):
    """One message on standard error holds every one of `said`."""
    assert status == 2, message + out
    assert "Traceback" not in message + out
    told = [line for line in message.splitlines() if line.startswith("tunewright: ")]
    assert len(told) == 1, message
    flat = " ".join(message[message.index("tunewright: ") :].split())
    for part in said:
        assert part in flat, f"{part!r} is not in {flat!r}"


def check_refused(folder, said, command="run", *more):
    """A command on the recipe in `folder` is refused and leaves every file as it was."""
    before = tree(folder)
    target = () if command in ("plan", "preview", "data") else ("--output", folder / "out")
    words = ("data", "check") if command == "data" else (command,)
    ended = call(*words, folder / "recipe.yaml", *target, *more)
    refused(ended.status, ended.err, said, ended.out)
    assert tree(folder) == before


def put(recipe, place, value):
    """Sets the key at a dotted place."""
    *path, last = place.split(".")
    for step in path:
        recipe = recipe.setdefault(step, {})
    recipe[last] = value


# What train.jsonl holds -> what the message says.
FILES = {
    "malformed JSON": (f"{GOOD}\n{GOOD}\n{{'prompt': 1}}\n", ["train.jsonl:3", "JSON"]),
    "JSON cut off": (f"{GOOD}\n" + GOOD[:-4] + "\n", ["train.jsonl:2", "JSON"]),
    "an object as prompt": (f'{GOOD}\n{{"prompt": {{"a": 1}}, "completion": "x"}}\n', ["train.jsonl:2", "prompt"]),
    "null as completion": (f'{GOOD}\n{{"prompt": "a", "completion": null}}\n', ["train.jsonl:2", "completion"]),
    "a list as completion": (f'{GOOD}\n{{"prompt": "a", "completion": [1]}}\n', ["train.jsonl:2", "completion"]),
    "mixed formats": (
        f'{GOOD}\n{{"instruction": "a", "output": "b"}}\n', ["train.jsonl:2", "instruction", "prompt"]
    ),
    "a field missing": (f'{GOOD}\n{{"prompt": "a"}}\n', ["train.jsonl:2", "completion"]),
    "no known fields": ('{"foo": "a", "bar": "b"}\n', ["train.jsonl", "foo", "bar"]),
    "rows that are lists": ("[1, 2]\n[3, 4]\n", ["train.jsonl:1"]),
    "an empty file": ("", ["train.jsonl", "no rows", "at least one row"]),
    "blank lines alone": ("\n\n\n", ["train.jsonl"]),
    "not UTF-8": (f"{GOOD}\n".encode() + b'{"prompt": "\xff\xfe", "completion": "x"}\n', ["train.jsonl:2", "UTF-8"]),
    "NUL bytes": (f"{GOOD}\n".encode() + b'{"prompt": "a\x00b", "completion": "x"}\n', ["train.jsonl:2", "NUL"]),
    "not a finite number": (
        f'{GOOD}\n{{"prompt": "a", "completion": "b", "loss_weight": NaN}}\n', ["train.jsonl:2", "loss_weight", "found nan"]
    ),
    "a negative loss weight": (
        f'{GOOD}\n{{"prompt": "a", "completion": "b", "loss_weight": -1}}\n', ["train.jsonl:2", "loss_weight", "-1"]
    ),
    "an unknown role": (
        '{"messages": [{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
        ["train.jsonl:1", "usr"],
    ),
    "messages without an answer": ('{"messages": [{"role": "user", "content": "a"}]}\n', ["train.jsonl:1"]),
    "messages that are text": ('{"messages": "hello"}\n', ["train.jsonl:1", "messages"]),
    "a gzip that is none": (GOOD, ["train.jsonl.gz"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_refused(case, small, tmp_path):
    content, said = FILES[case]
    path = tmp_path / ("train.jsonl.gz" if "gzip" in case else "train.jsonl")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    small["data"]["train"] = str(path)
    written(tmp_path, small)
    check_refused(tmp_path, said)


# Key of the recipe, its value -> what the message says.
KEYS = {
    "unknown key": ("trian", {}, ["recipe.yaml:", "'trian'", "Did you mean 'train'?"]),
    "unknown key of a section": ("train.epoch", 1, ["recipe.yaml:", "train.epoch", "Did you mean 'epochs'?"]),
    "unknown method": ("adapter", "lroa", ["recipe.yaml:", "Did you mean 'lora'?"]),
    "unknown optimizer": ("optimizer", {"method": "adamm"}, ["optimizer.method", "Did you mean 'adamw'?"]),
    "unknown objective": ("objective", "sftt", ["objective", "Did you mean 'sft'?"]),
    "unknown task": ("evaluate", ["perplexty"], ["evaluate.0", "Did you mean 'perplexity'?"]),
    "unknown option of a method": ("adapter", {"method": "lora", "rnk": 4}, ["adapter.rnk", "Did you mean 'rank'?"]),
    "unknown tracker": ("train.trackers", ["tensorbord"], ["train.trackers.0", "found 'tensorbord'"]),
    "unknown format": ("data.format", "jsonl", ["data.format", "found 'jsonl'"]),
    "unknown truncation": ("data.truncation", "cut", ["data.truncation", "'error'"]),
    "unknown precision": ("train.precision", "fp8", ["train.precision", "found 'fp8'", "'bf16'"]),
    "rank of zero": ("adapter", {"method": "lora", "rank": 0}, ["adapter.rank", "found 0", "greater than or equal to 1"]),
    "rank above the layer": (
        "adapter", {"method": "lora", "rank": 64}, ["adapter.rank", "found 64", "at most", "layer '"]
    ),
    "rank that is a word": ("adapter", {"method": "lora", "rank": "high"}, ["adapter.rank", "found 'high'", "integer"]),
    "negative learning rate": ("optimizer", {"method": "adamw", "lr": -1.0}, ["optimizer.lr", "found -1.0"]),
    "learning rate that is a word": ("optimizer", {"method": "adamw", "lr": "big"}, ["optimizer.lr", "found 'big'"]),
    "dropout of one": ("adapter", {"method": "lora", "dropout": 1.0}, ["adapter.dropout", "less than 1"]),
    "zero steps": ("train.steps", 0, ["train.steps", "found 0"]),
    "steps that are true": ("train.steps", True, ["train.steps", "found True", "a number"]),
    "negative seed": ("train.seed", -1, ["train.seed", "found -1"]),
    "split of one": ("data", {"train": "train.jsonl", "split": 1.0}, ["data.split", "less than 1"]),
    "steps and epochs": ("train.epochs", 1, ["train", "epochs and steps", "give one of them"]),
    "early stop without evaluations": ("train.early_stop", {}, ["train", "early_stop needs evaluate_every"]),
    "keep best without evaluations": ("train.keep_best", "perplexity", ["keep_best needs evaluate_every"]),
    "split beside eval": ("data.split", 0.2, ["data.split", "Remove one"]),
    "train and sources": ("data.sources", ["train.jsonl"], ["data", "both 'train' and 'sources'"]),
    "no such data": ("data.train", "trian.jsonl", ["recipe.yaml:", "data.train", "Did you mean 'train.jsonl'?"]),
    "no such eval data": ("data.eval", "evil.jsonl", ["recipe.yaml:", "data.eval", "Did you mean 'eval.jsonl'?"]),
    "data of an unknown suffix": ("data.train", "notes.docx", ["notes.docx"]),
    "a mapped field that is not there": (
        "data.fields", {"prompt": "question"}, ["'question'", ".jsonl:1", "'fields'"]
    ),
    "truncation forbidden": ("data", {"train": "train.jsonl", "max_length": 8, "truncation": "error"}, ["train.jsonl:1"]),
    "too many rows lost": ("data", {"train": "train.jsonl", "max_length": 8}, ["train.jsonl", "60"]),
    "all rows masked": ("data", {"train": {"path": "train.jsonl", "loss_weight": 0.0}}, ["train.jsonl"]),
    "no such model": ("model", "models/nowhere/at/all", ["model.path", "a folder with config.json"]),
    "the model is a file": ("model", "train.jsonl", ["model.path", "train.jsonl", "a folder with config.json"]),
    "no such template file": ("model.chat_template", "chat.jinja", ["model.chat_template", "chat.jinja"]),
    "no such adapter": ("model.adapter", "adapter", ["model.adapter", "no such file or directory"]),
    "an adapter without files": ("model.adapter", "hollow", ["hollow", "PEFT"]),
    "an unknown target": (
        "adapter", {"method": "lora", "target_modules": ["q_prj"]}, ["target_modules", "Did you mean 'q_proj'?"]
    ),
    "an unknown whole module": (
        "adapter", {"method": "lora", "train_modules": ["embeddings"]}, ["train_modules", "embeddings"]
    ),
    "a rank for no layer": ("adapter", {"method": "lora", "ranks": {"gate": 2}}, ["ranks", "gate"]),
    "a directory without text": ("data.train", "hollow", ["hollow", "no text files", "data.train"]),
    "an unknown measure in early_stop": (
        "train", {"steps": 4, "evaluate_every": 2, "early_stop": {"measure": "perplex"}},
        ["recipe.yaml:", "train.early_stop.measure", "found 'perplex'", "Did you mean 'perplexity'?"],
    ),
    "an unknown measure in keep_best": (
        "train", {"steps": 4, "evaluate_every": 2, "keep_best": "accuracy"}, ["train.keep_best", "found 'accuracy'"]
    ),
    "a task of labels on rows without": ("evaluate", ["classification"], ["label", "eval.jsonl"]),
    "a task on a file that is not there": ("evaluate", [{"task": "exact_match", "data": "tset.jsonl"}], ["tset.jsonl"]),
    "a scoring function that is not there": (
        "evaluate", [{"task": "custom", "function": "good.py:grade"}], ["good.py", "grade"]
    ),
    "a scoring function that raises": (
        "evaluate", [{"task": "custom", "function": "good.py:fails"}], ["fails", "ZeroDivisionError", "eval.jsonl"]
    ),
    "a row function that raises": ("data.function", "good.py:breaks", ["function", ".jsonl:1", "KeyError"]),
    "a row function that is not there": ("data.function", "good.py:nothing", ["good.py", "nothing"]),
    "a use file with a syntax error": ("use", ["wrong.py"], ["wrong.py", "2"]),
    "a use file that is not there": ("use", ["goood.py"], ["recipe.yaml:", "use", "Did you mean 'good.py'?"]),
    "a template that does not parse": ("model.chat_template", "broken.jinja", ["template"]),
    "packing a model that leaks": ("data.packing", "yes", ["data.packing", "'auto'"]),
    "labels for other data": ("data.labels", {"0": "no"}, ["labels"]),
    "nothing to train on": ("data", {"eval": "eval.jsonl"}, ["data", "names no training rows"]),
    "a limit of zero": ("data.limit", 0, ["data.limit", "found 0"]),
}  # fmt: skip


@pytest.fixture
def desk(small, tmp_path):
    """The recipe with files a user might name wrongly."""
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "image.png").write_bytes(b"\x89PNG")
    (tmp_path / "notes.docx").write_bytes(b"PK")
    (tmp_path / "wrong.py").write_text("x = 1\ndef (:\n")
    (tmp_path / "broken.jinja").write_text("{% for m in messages %}{{ m")
    (tmp_path / "good.py").write_text(
        "def fails(answer, record):\n    return 1 / 0\n\ndef breaks(row):\n    return row['nothing']\n"
    )
    small["model"] = {"path": small["model"]}
    return small


@pytest.mark.parametrize("case", KEYS)
def test_a_key_is_refused(case, desk, tmp_path):
    place, value, said = KEYS[case]
    put(desk, place, value)
    if case == "a template that does not parse":
        rows_file(tmp_path / "train.jsonl", [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])  # fmt: skip
    written(tmp_path, desk)
    check_refused(tmp_path, said)


CHANGES = {
    "no equals sign": ("train.steps", ["--set", "train.steps", "KEY=VALUE"]),
    "no key": ("=3", ["--set", "KEY=VALUE"]),
    "an unknown key": ("train.stps=3", ["train.stps", "Did you mean 'steps'?"]),
    "a value out of range": ("adapter.rank=0", ["adapter.rank", "found 0"]),
    "not a number": ("optimizer.lr=.inf", ["optimizer.lr", "finite"]),
    "broken YAML": ("evaluate=[", ["--set evaluate", "YAML"]),
    "an item that is not there": ("evaluate.5=perplexity", ["--set evaluate.5", "0 to 0"]),
    "below a number": ("train.steps.more=1", ["--set train.steps.more", "cannot be set"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_is_refused(case, small, tmp_path):
    change, said = CHANGES[case]
    written(tmp_path, small)
    check_refused(tmp_path, said, "run", "--set", change)


RECIPES = {
    "not YAML": ("model: [", ["recipe.yaml:1", "YAML"]),
    "a duplicate key": ("model: a\ndata: b\nmodel: c\n", ["recipe.yaml:3", "duplicate", "model"]),
    "not finite": ("model: a\ndata: b\noptimizer: {lr: .nan}\n", ["recipe.yaml:3", "optimizer.lr", "finite"]),
    "a list": ("- model\n", ["recipe.yaml", "model:"]),
    "empty": ("", ["recipe.yaml", "not a recipe"]),
    "no model": ("data: train.jsonl\n", ["recipe.yaml", "no 'model'"]),
    "not UTF-8": (b"model: \xff\n", ["recipe.yaml", "UTF-8"]),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_is_refused(case, tmp_path):
    content, said = RECIPES[case]
    (tmp_path / "recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    check_refused(tmp_path, said)


@pytest.mark.parametrize("command", ["run", "plan", "preview", "data", "pretrain"])
def test_a_recipe_that_is_not_there(command, tmp_path):
    check_refused(tmp_path, ["recipe.yaml", "No such file"], command)


@pytest.mark.parametrize("command", ["plan", "preview", "data"])
def test_other_commands_name_the_row_too(command, small, tmp_path):
    (tmp_path / "train.jsonl").write_text(f"{GOOD}\n{{\n")
    written(tmp_path, small)
    before = tree(tmp_path)
    words = ("data", "check") if command == "data" else (command,)
    ended = call(*words, tmp_path / "recipe.yaml")
    assert ended.status == 2 and "train.jsonl:2" in ended.err + ended.out and "Traceback" not in ended.err
    assert tree(tmp_path) == before


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def small_embedding(folder):
    from tunewright.testing.models import tiny

    tiny(vocab_size=90).save_pretrained(folder)


MODELS = {
    "no config": (lambda f: (f / "config.json").unlink(), ["config.json", "model.path"]),
    "a broken config": (lambda f: (f / "config.json").write_text("{"), ["model.path"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["model.safetensors", "model.path"]),
    "truncated weights": (truncate, ["model.path", "cannot be loaded"]),
    "pickled weights": (only_pickle, ["pytorch_model.bin", "pickle"]),
    "a tensor missing": (lose_a_tensor, ["model.norm.weight"]),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ["tokenizer"]),
    "no end token": (lambda f: edit(f / "tokenizer_config.json", eos_token=None), ["end-of-sequence", "eos_token"]),
    "too small an embedding": (small_embedding, ["vocabulary is larger than the model's embedding", "below 90"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_is_refused(case, small, tiny, tmp_path):
    spoil, said = MODELS[case]
    spoil(shutil.copytree(tiny, tmp_path / "model"))
    small["model"] = str(tmp_path / "model")
    written(tmp_path, small)
    check_refused(tmp_path, said)


def test_a_single_row_cannot_be_split(small, tmp_path):
    small["data"] = str(rows_file(tmp_path / "train.jsonl", pairs(1)))
    written(tmp_path, small)
    check_refused(tmp_path, ["train.jsonl"])


def test_a_line_of_100_megabytes(small, tmp_path):
    with (tmp_path / "train.jsonl").open("wb") as file:
        file.write(f'{GOOD}\n{{"prompt": "'.encode())
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'", "completion": "y"}\n')
    written(tmp_path, small)
    ended = call("run", tmp_path / "recipe.yaml", "--output", tmp_path / "out")
    refused(ended.status, ended.err, ["train.jsonl:2"])
    assert not (tmp_path / "out").exists()


def test_an_earlier_run_is_kept(small, tmp_path):
    recipe = written(tmp_path, small)
    assert call("run", recipe, "--output", tmp_path / "out").status == 0
    check_refused(tmp_path, ["out", "exists already", "--resume, --overwrite"])
    check_refused(tmp_path, ["--resume continues", "Give one"], "run", "--resume", "--overwrite")
    check_refused(tmp_path, ["out", "train.seed", "found 1", "expected 0"], "run", "--resume", "--set", "train.seed=1")
    (tmp_path / "train.jsonl").write_text("{\n")
    check_refused(tmp_path, ["train.jsonl:1"], "run", "--overwrite")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    check_refused(tmp_path, ["out", "holds what no run wrote", "notes.txt"], "run", "--overwrite")


def test_the_output_is_a_file(small, tmp_path):
    (tmp_path / "out").write_text("mine")
    written(tmp_path, small)
    check_refused(tmp_path, ["out", "not a folder"])


@pytest.mark.parametrize("command", ["evaluate", "chat", "export"])
def test_a_folder_that_is_no_run(command, tmp_path):
    before = tree(tmp_path)
    ended = call(command, tmp_path, *(["--output", tmp_path / "new"] if command == "export" else []))
    refused(ended.status, ended.err, [str(tmp_path), "not the folder of a finished run"])
    assert tree(tmp_path) == before


def test_an_unknown_form_of_export(tmp_path):
    ended = call("export", tmp_path, "--output", tmp_path / "new", "--form", "gguf")
    refused(ended.status, ended.err, ["--form", "'gguf'", "merged or adapter"])


def test_an_unknown_method_to_list():
    ended = call("methods", "lroa")
    refused(ended.status, ended.err, ["lroa", "Did you mean 'lora'?"])


def as_nobody(*command, **options):
    """A command without root's powers."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to give up root's powers")
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    return subprocess.run([*drop, *command], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture
def open_folder():
    """A folder that every user may read; those of pytest are their owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_no_permission(small, tiny, open_folder):
    """A user who may read everything, but write only elsewhere."""
    shutil.copytree(tiny, open_folder / "model")
    home = open_folder / "home"
    home.mkdir()
    home.chmod(0o777)
    small["model"] = str(open_folder / "model")
    small["data"] = {name: str(shutil.copy(path, open_folder)) for name, path in small["data"].items()}
    recipe = written(open_folder, small)
    environment = {**os.environ, "TUNEWRIGHT_CACHE": str(home), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    if as_nobody(sys.executable, "-c", "import tunewright", env=environment).returncode:
        pytest.skip("another user cannot read this checkout")
    command = [sys.executable, "-m", "tunewright.cli", "run", str(recipe), "--output"]
    ended = as_nobody(*command, str(open_folder / "out"), env=environment)
    refused(ended.returncode, ended.stderr, ["out", "cannot be written", "Permission denied"])
    assert not (open_folder / "out").exists()
    (open_folder / "train.jsonl").chmod(0)
    ended = as_nobody(*command, str(home / "out"), env=environment)
    refused(ended.returncode, ended.stderr, ["train.jsonl", "Permission denied"])
    assert not (home / "out").exists()


def test_disk_full(small, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        recipe = written(tmp_path, small)
        ended = call("run", recipe, "--output", disk / "out")
        refused(ended.status, ended.err, [str(disk), "No space left on device"])
        assert not list(disk.rglob(".*")) and not (disk / "out" / "report.html").exists()
        shutil.rmtree(disk / "out")
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
        ended = call("run", recipe, "--output", disk / "out2")
        refused(ended.status, ended.err, [str(disk), "No space left on device"])
        assert not (disk / "out2").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_absurd_learning_rate_stops_with_its_cause(small, tmp_path):
    small["optimizer"] = {"method": "sgd", "lr": 1e36}
    small["train"] |= {"clip": None, "steps": 12}
    recipe = written(tmp_path, small)
    ended = call("run", recipe, "--output", tmp_path / "out")
    assert ended.status == 3, ended.err
    [told] = [line for line in ended.err.splitlines() if line.startswith("tunewright: ")]
    assert ("step " in told and "not finite" in told) or "is nan" in told or "is inf" in told
    assert "learning rate" in told and "Traceback" not in ended.err


def test_the_process_ends_with_the_status(tmp_path):
    ended = end(started("run", tmp_path / f"{WORDS[0]}.yaml"))
    refused(ended.status, ended.err, ["red.yaml", "No such file"], ended.out)


def test_a_damaged_adapter_of_a_run(small, tmp_path):
    assert call("run", written(tmp_path, small), "--output", tmp_path / "out").status == 0
    weights = tmp_path / "out" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    ended = call("evaluate", tmp_path / "out")
    refused(ended.status, ended.err, [str(tmp_path / "out" / "adapter"), "cannot be read"])


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes.")]
)
def test_memory_that_runs_out_anywhere_ends_in_one_message(error, tmp_path, monkeypatch):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr("tunewright.pipeline.assemble", fails)
    recipe = written(tmp_path, {"model": "nano", "data": {"train": {"path": "nano:facts/train", "limit": 8}}})
    ended = call("run", recipe, "--output", tmp_path / "out")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "memory ran out" in ended.err
    monkeypatch.setattr("tunewright.pipeline.assemble", lambda *args, **options: fails.missing)
    with pytest.raises(AttributeError):
        call("run", recipe, "--output", tmp_path / "out")
