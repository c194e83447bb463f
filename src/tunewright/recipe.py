"""The recipe: what is tuned, on what, how, and what counts as proof. Validated whole before any work begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError, model_validator
from pydantic.fields import FieldInfo

from tunewright import catalog
from tunewright.catalog import Method, option
from tunewright.document import Document, Keys, Place
from tunewright.errors import BadInput, nearest

EMBEDDED = "nano"
"""The name under which a recipe asks for the embedded model."""

TrainOn = Literal["completion", "last_turn", "all_turns", "all"]
Truncation = Literal["error", "drop", "left", "right", "middle"]


class Section(BaseModel):
    """A part of a recipe: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class AddedTokens(Section):
    """New vocabulary entries and how their embedding rows begin."""

    tokens: tuple[str, ...] = option((), "Texts that become single tokens.", changes="parameters", to=["<new>"])
    special: bool = option(
        False, "Whether decoding may skip them as special tokens.", changes="tokens", to=True,
        given={"model.add_tokens.tokens": ["<new>"]},
    )  # fmt: skip
    init: Literal["subwords", "mean", "zero"] = option(
        "subwords", "First value of a new row: mean of its old subwords' rows, mean of all rows, or zeros.",
        changes="loss", to="zero", given={"model.add_tokens.tokens": ["<new>"]},
    )  # fmt: skip


class ModelSpec(Section):
    """Which pretrained model, and how it is loaded."""

    path: str = option(EMBEDDED, "A local folder, a hub id, or 'nano' for the embedded model.", changes="loss", to=None)
    from_scratch: bool = option(
        False, "Random first weights in the model's architecture, for pretraining.", changes="loss", to=True
    )
    revision: str | None = option(None, "Commit, branch or tag of a hub model.", changes="files", to=None)
    trust_remote_code: bool = option(False, "Run the model repository's own Python code.", changes="error", to=None)
    chat_template: str | None = option(
        None, "A Jinja file that replaces the tokenizer's chat template.", changes="tokens", to=None
    )
    add_tokens: AddedTokens = option(AddedTokens(), "New vocabulary entries.", changes="parameters", to=None)
    adapter: str | None = option(
        None, "A trained adapter (PEFT folder) to merge into the weights before this run's own adapter.",
        changes="loss", to=None,
    )  # fmt: skip


class Reading(Section):
    """How rows are read and turned into tokens: set for all sources under `data`, or for one source."""

    format: Literal[
        "auto", "alpaca", "sharegpt", "messages", "completion", "question", "preference", "unpaired",
        "classification", "text",
    ] = option("auto", "The rows' format; `auto` recognises it by the fields and says so.", changes="tokens", to="text")  # fmt: skip
    fields: dict[str, str] = option(
        {},
        "Our field name -> the name in the rows, as {prompt: body, completion: headline}.",
        changes="tokens",
        to=None,
    )
    labels: dict[str, str] = option(
        {}, "Class value in the rows -> the words the model is to answer, as {0: negative, 1: positive}.",
        changes="tokens", to=None,
    )  # fmt: skip
    prompt: str | None = option(
        None, "Text around a classified text, `{text}` standing for it; default '{text}\\nLabel:'.",
        changes="tokens", to=None,
    )  # fmt: skip
    function: str | None = option(
        None, "A Python function `FILE.py:NAME`, row dict -> row dict in a known format or None to leave it out.",
        changes="tokens", to=None,
    )  # fmt: skip
    template: Literal["auto", "tokenizer", "default", "none"] = option(
        "auto", "Chat template: the tokenizer's own, the documented default, or none (turns joined verbatim); `auto`"
        " takes the tokenizer's where it has one.", changes="tokens", to="none",
    )  # fmt: skip
    train_on: TrainOn = option(
        "completion", "Tokens that carry loss: the completion (every assistant turn of a conversation), the last"
        " assistant turn, all assistant turns, or all tokens.", changes="tokens", to="all",
    )  # fmt: skip
    truncation: Truncation | None = option(
        None, "What happens to a record longer than the limit; unset means `drop`, stopping when over 10% are lost.",
        changes="tokens", to="right",
    )  # fmt: skip
    max_lost: float | None = option(
        None, "Largest share of a source's rows that may be cut or dropped before the run refuses to start.",
        changes="error", to=0.0, ge=0, le=1,
    )  # fmt: skip
    duplicates: Literal["remove", "keep"] = option(
        "remove", "Exact repetitions of a training row: counted, and removed or kept.", changes="steps", to="keep"
    )
    split: float = option(
        0.1, "Share of rows held out by the hash of their prompt when no eval data is named.", changes="steps", to=0.5,
        gt=0, lt=1,
    )  # fmt: skip
    limit: int | None = option(None, "Read at most this many rows of the source.", changes="steps", to=8, ge=1)


class SourceSpec(Reading):
    """One source of rows."""

    path: str = option(..., "File, directory or hub data set.", changes="loss", to=None)
    subset: str | None = option(None, "Configuration name of a hub data set.", changes="loss", to=None)
    part: str | None = option(None, "Split of a hub data set ('train', 'test').", changes="loss", to=None)
    name: str | None = option(None, "Name in reports; default the file's.", changes="log", to="other")
    weight: float | None = option(
        None, "Share of an epoch's rows drawn from this source, relative to the others' weights.", changes="loss",
        to=3.0, gt=0,
    )  # fmt: skip
    epochs: float | None = option(None, "Passes over this source per epoch of the run.", changes="steps", to=2.0, gt=0)
    loss_weight: float = option(
        1.0, "Multiplies the weight of every token of this source.", changes="loss", to=3.0, ge=0
    )
    eval: str | None = option(None, "Held-out rows of this source.", changes="output", to=None)


class DataSpec(Reading):
    """The training and evaluation rows."""

    sources: tuple[SourceSpec, ...] = option(
        (), "The training sources, each with its own options.", changes="loss", to=None
    )
    eval: tuple[SourceSpec, ...] = option(
        (), "Held-out rows; without them `split` of every source.", changes="output", to=None
    )
    max_length: int | None = option(
        None, "Longest sequence in tokens; default the model's context.", changes="tokens", to=48, ge=2
    )
    packing: Literal["auto", "on", "off"] = option(
        "auto", "Several records in one row with attention kept apart; `auto` packs where it saves time and the model"
        " is proven to keep them apart.", changes="log", to="on",
    )  # fmt: skip
    cache: bool = option(
        True, "Keep tokenised data for the next run, found again by content hash.", changes="files", to=False
    )


class EarlyStop(Section):
    """When a run that no longer improves ends."""

    measure: str = option("perplexity", "Measure watched, one of those under `evaluate`.", changes="steps", to=None)
    patience: int = option(3, "Evaluations without improvement before the run ends.", changes="steps", to=1, ge=1)


class TrainSpec(Section):
    """How long and in what portions the model trains."""

    epochs: float | None = option(
        None, "Passes over the data (1 unless `steps` or `tokens` is set).", changes="steps", to=2.0, gt=0
    )
    steps: int | None = option(None, "Optimizer steps, instead of epochs.", changes="steps", to=2, ge=1)
    tokens: int | None = option(
        None, "Training tokens (without padding), instead of epochs.", changes="steps", to=300, ge=1
    )
    tokens_per_step: int = option(
        4096, "Tokens of one optimizer step, padding not counted.", changes="steps", to=128, ge=1
    )
    micro_batch_tokens: int | None = option(
        None, "Padded tokens computed at once; chosen from the model's size when unset. Changes memory, not results.",
        changes="log", to=64, ge=1,
    )  # fmt: skip
    precision: Literal["auto", "bf16", "fp32"] = option(
        "auto", "Number format of the frozen weights and of the arithmetic; what trains is float32. `auto` takes bf16"
        " where the processor computes in it.", changes="loss", to="fp32",
    )  # fmt: skip
    seed: int = option(0, "Seed of data order, initialisation and dropout.", changes="loss", to=1, ge=0, lt=2**31)
    clip: float | None = option(1.0, "Largest norm of the gradient; null for none.", changes="loss", to=0.01, gt=0)
    checkpoint_every: int | None = option(
        None, "Steps between checkpoints; default about ten per run.", changes="files", to=1, ge=1
    )
    keep_checkpoints: int = option(
        2, "Newest checkpoints kept.", changes="files", to=1, ge=1, given={"train.checkpoint_every": 1}
    )
    evaluate_every: int | None = option(None, "Steps between evaluations during training.", changes="log", to=1, ge=1)
    evaluate_limit: int = option(
        64, "Examples per task in an evaluation during training.", changes="log", to=2, ge=1,
        given={"train.evaluate_every": 1},
    )  # fmt: skip
    early_stop: EarlyStop | None = option(None, "End early when a measure stops improving.", changes="steps", to=None)
    keep_best: str | None = option(
        None, "Measure whose best evaluation during training decides which weights the run ends with.",
        changes="output", to=None,
    )  # fmt: skip
    activation_checkpointing: bool = option(
        False, "Recompute activations in the backward pass to save memory.", changes="bytes", to=True
    )
    compile: bool = option(
        False, "Compile the model with torch.compile (pays off on long runs).", changes="log", to=None
    )
    shard: bool = option(False, "Shard parameters and optimizer over the processes.", changes="bytes", to=None)
    rehearsal: bool = option(
        True,
        "Before step 1, try the longest batch, one evaluation, one generation, one save.",
        changes="log",
        to=False,
    )
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = option(
        ("tensorboard",), "Where metrics go besides metrics.jsonl.", changes="files", to=()
    )
    threads: int | None = option(None, "Processor threads; default all.", changes="log", to=None, ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> TrainSpec:
        given = [name for name in ("epochs", "steps", "tokens") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are each the length of the run; give one of them")
        if self.early_stop and not self.evaluate_every:
            raise ValueError("early_stop needs evaluate_every, the steps between evaluations")
        if self.keep_best and not self.evaluate_every:
            raise ValueError("keep_best needs evaluate_every, the steps between evaluations")
        return self


class Recipe(Section):
    """A whole run. `Recipe.read(path)` and `Recipe.of(model=..., data=...)` make one."""

    model: ModelSpec
    data: DataSpec
    adapter: SerializeAsAny[Method]
    objective: SerializeAsAny[Method]
    optimizer: SerializeAsAny[Method]
    schedule: SerializeAsAny[Method]
    train: TrainSpec
    evaluate: tuple[SerializeAsAny[Method], ...]
    use: tuple[str, ...] = ()
    origin: Keys

    @staticmethod
    def read(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
        """The recipe in a YAML (or JSON) file, after `changes` of the form `key.key=value`.

        Raises `BadInput` naming file, line and field of the first fault.
        """
        return _resolve(Document.read(Path(path)).changed(changes))

    @staticmethod
    def of(**keys: Any) -> Recipe:
        """The recipe with these keys, as in a file; methods may also be given as objects."""
        return _resolve(Document(keys))

    def fault(self, place: Place, message: str, **details: Any) -> BadInput:
        """The error that names file, line and field of a key of this recipe."""
        return Document({}, self.origin.file, self.origin.lines).fault(place, message, **details)

    def plain(self) -> dict[str, Any]:
        """The resolved recipe with every default written out, as YAML can hold it."""
        # `split` beside rows of eval is refused: it would say nothing.
        apart = {"split"} if self.data.eval else set()
        return {
            "model": self.model.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json", exclude=apart),
            **{kind: _plain_method(getattr(self, kind)) for kind in SLOTS},
            "train": self.train.model_dump(mode="json"),
            "evaluate": [_plain_method(task) for task in self.evaluate],
            **({"use": list(self.use)} if self.use else {}),
        }


SLOTS = {"adapter": "lora", "objective": "sft", "optimizer": "adamw", "schedule": "cosine"}
"""Keys that hold one method, with the method taken when the key is absent."""


FILES = ("data", "function")
"""Options of tasks that name files."""


def _plain_method(method: Method) -> dict[str, Any]:
    word = "task" if method.kind == "task" else "method"
    return {word: method.name, **method.model_dump(mode="json")}


def _resolve(document: Document) -> Recipe:
    keys = document.keys
    known = [name for name in Recipe.model_fields if name != "origin"]
    for key in keys:
        if key not in known:
            raise document.fault((key,), "unknown key", hint=nearest(str(key), known) or f"Known: {', '.join(known)}.")
    for required in ("model", "data"):
        if keys.get(required) is None:
            raise document.fault((), f"the recipe has no '{required}'", hint=f"Add a line '{required}: ...'.")
    use = _strings(document, "use")
    use = tuple(str(document.path_of(item, ("use",))) for item in use)
    for item in use:
        catalog.use(Path(item))
    slots: dict[str, Any] = {
        kind: _method(document, kind, default if keys.get(kind) is None else keys[kind], (kind,))
        for kind, default in SLOTS.items()
    }
    return Recipe.model_construct(
        model=_section(document, ModelSpec, _model_keys(document), ("model",)),
        data=_data(document),
        train=_section(document, TrainSpec, {} if keys.get("train") is None else keys["train"], ("train",)),
        evaluate=_tasks(document),
        use=use,
        origin=document.origin,
        **slots,
    )


def _model_keys(document: Document) -> Any:
    value = document.keys["model"]
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        return value
    files = ("chat_template", "adapter") if value.get("path") == EMBEDDED else ("path", "chat_template", "adapter")
    return document.anchored(value, *files)


def _tasks(document: Document) -> tuple[Method, ...]:
    listed = document.keys.get("evaluate", ["perplexity", "retention"])
    if listed is None:
        listed = []
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise document.fault(("evaluate",), "not a list of tasks", found=listed, expected="a list, as [perplexity]")
    return tuple(_method(document, "task", item, ("evaluate", index)) for index, item in enumerate(listed))


def _strings(document: Document, key: str) -> tuple[str, ...]:
    value = document.keys.get(key) or ()
    value = (value,) if isinstance(value, str) else value
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise document.fault((key,), "not a list of file names", found=value, expected="a list of paths")
    return tuple(value)


def _method(document: Document, kind: str, value: Any, at: tuple[str | int, ...]) -> Method:
    word = "task" if kind == "task" else "method"
    if isinstance(value, Method):
        if value.kind != kind:
            raise document.fault(at, f"'{value.name}' is a method of kind {value.kind}, not {kind}")
        return value
    options = {word: value} if isinstance(value, str) else value
    if not isinstance(options, Mapping) or not isinstance(options.get(word), str):
        raise document.fault(
            at, f"names no {kind}", found=value, expected=f"a name, or options with '{word}: NAME'",
            hint=f"Known: {', '.join(catalog.names(kind))}.",
        )  # fmt: skip
    try:
        cls = catalog.find(kind, options[word])
    except BadInput as error:
        named = (*at, word) if isinstance(value, Mapping) else at
        raise document.fault(named, error.message, hint=error.hint) from None
    given = {k: v for k, v in options.items() if k != word}
    made: Method = _section(document, cls, document.anchored(given, *FILES) if kind == "task" else given, at)
    return made


def _data(document: Document) -> DataSpec:
    value = document.keys["data"]
    if isinstance(value, str):
        value = {"train": value}
    elif isinstance(value, Sequence):
        value = {"sources": value}
    if not isinstance(value, Mapping):
        raise document.fault(("data",), "not a source", found=value, expected="a path, a list of sources, or options")
    options = dict(value)
    shared = {key: options[key] for key in Reading.model_fields if key in options}
    _section(document, Reading, shared, ("data",))
    given = [key for key in ("train", "sources") if options.get(key)]
    if len(given) != 1:
        raise document.fault(
            ("data",), "names no training rows" if not given else "names both 'train' and 'sources'",
            hint="Add 'train: FILE', or a list under 'sources'.",
        )  # fmt: skip
    sources = _sources(document, options.pop(given[0]), ("data", given[0]), shared)
    evals = _sources(document, options.pop("eval", None) or (), ("data", "eval"), shared)
    options.pop("train", None), options.pop("sources", None)
    made: DataSpec = _section(document, DataSpec, {**options, "sources": sources, "eval": evals}, ("data",), ("train",))
    if evals and "split" in shared:
        raise document.fault(
            ("data", "split"), "rows are split off only when no eval data is named", hint="Remove one."
        )
    return made


def _sources(
    document: Document, value: Any, at: tuple[str | int, ...], shared: Mapping[str, Any]
) -> tuple[SourceSpec, ...]:
    single = isinstance(value, str | Mapping)
    if not single and not isinstance(value, Sequence):
        raise document.fault(at, "not a source", found=value, expected="a path, options, or a list of them")
    listed = [value] if single else list(value)
    made = []
    for index, item in enumerate(listed):
        place = at if single else (*at, index)
        options = {"path": item} if isinstance(item, str) else item
        if not isinstance(options, Mapping):
            raise document.fault(place, "not a source", found=item, expected="a path, or options with 'path: FILE'")
        anchored = document.anchored({**shared, **options}, "path", "eval", "function")
        source: SourceSpec = _section(document, SourceSpec, anchored, place)
        if source.weight is not None and source.epochs is not None:
            raise document.fault(place, "weight and epochs both say how often rows are drawn", hint="Give one of them.")
        made.append(source)
    return tuple(made)


def _section(document: Document, cls: Any, value: Any, at: tuple[str | int, ...], extra: tuple[str, ...] = ()) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise document.fault(at, "not a set of options", found=value, expected="options, as {key: value}")
    for key, item in value.items():
        if isinstance(item, bool) and _is_number(cls.model_fields.get(key)):
            raise document.fault((*at, key), "not usable", found=item, expected="a number")
    try:
        return cls(**{str(key): _names_as_text(cls, key, item) for key, item in value.items()})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        loc = (*at, *fault["loc"])
        if fault["type"] == "extra_forbidden":
            inner = _model_at(cls, fault["loc"][:-1])
            known = [*inner.model_fields, *(extra if inner is cls else ())]
            unknown = str(fault["loc"][-1])
            raise document.fault(
                loc, "unknown key", hint=nearest(unknown, known) or f"Known: {', '.join(known) or 'none'}."
            ) from None
        if fault["type"] == "missing":
            raise document.fault(at, f"lacks '{fault['loc'][-1]}'", hint=f"Add '{fault['loc'][-1]}: ...'.") from None
        if fault["type"] == "value_error":
            raise document.fault(loc, str(fault["ctx"]["error"])) from None
        message = fault["msg"].replace("Input should be", "", 1).strip()
        raise document.fault(loc, "not usable", found=fault["input"], expected=message) from None


def _is_number(field: FieldInfo | None) -> bool:
    return field is not None and bool({int, float} & {field.annotation, *get_args(field.annotation)})


def _names_as_text(cls: Any, key: Any, item: Any) -> Any:
    """Keys and values of word maps (`labels: {0: negative}`) are text whatever YAML made of them."""
    field = cls.model_fields.get(key)
    if field is not None and field.annotation == dict[str, str] and isinstance(item, Mapping):
        return {_word(name): _word(value) for name, value in item.items()}
    return item


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _model_at(cls: Any, path: tuple[int | str, ...]) -> Any:
    for step in path:
        field = cls.model_fields.get(step) if isinstance(step, str) else None
        inner = field.annotation if field else None
        options = [inner, *getattr(inner, "__args__", ())]
        cls = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), cls)
    return cls
