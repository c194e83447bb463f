"""The parts of a recipe: their keys, defaults and bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, SerializeAsAny, model_validator

from tunewright import catalog
from tunewright.catalog import Method, option

EMBEDDED = "nano"
"""The name under which a recipe asks for the embedded model."""

TrainOn = Literal["completion", "last_turn", "all_turns", "all"]
Truncation = Literal["error", "drop", "left", "right", "middle"]


class Section(BaseModel):
    """A part of a recipe: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


AUTO = "auto"
"""The value of `format` under which the rows' format is recognised by their fields."""


def _format(value: Any) -> Any:
    """A bare name is the format at its defaults."""
    return catalog.find("format", value)() if isinstance(value, str) and value != AUTO else value


def _plain_format(value: Method | str) -> Any:
    """As a recipe writes it: the bare name where there are no options."""
    if isinstance(value, str):
        return value
    return {"method": value.name, **value.model_dump(mode="json")} if type(value).model_fields else value.name


RowFormat = Annotated[Literal["auto"] | Method, BeforeValidator(_format), PlainSerializer(_plain_format)]
"""A method of the kind `format`, or `auto`."""


def _augments(value: Any) -> Any:
    """A name, a method, or a list of them."""
    listed = value if isinstance(value, list | tuple) else () if value is None else (value,)
    return tuple(catalog.find("augment", one)() if isinstance(one, str) else one for one in listed)


Augments = Annotated[
    tuple[Method, ...],
    BeforeValidator(_augments),
    PlainSerializer(lambda listed: [_plain_format(one) for one in listed]),
]
"""Methods of the kind `augment`, in the order in which they act."""


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
    quantize: SerializeAsAny[Method] | None = option(
        None, "How the frozen weights are stored in fewer bits: a quantizer.", changes="bytes", to=None
    )
    vocabulary: SerializeAsAny[Method] | None = option(
        None, "Another tokenizer, and how rows for its tokens are made.", changes="tokens", to=None
    )
    context: SerializeAsAny[Method] | None = option(
        None, "How the model is made to take longer sequences.", changes="loss", to=None
    )
    adapter: str | None = option(
        None, "A trained adapter (PEFT folder, or that of a run) that this run goes on from.", changes="loss", to=None
    )
    adapter_as: Literal["base", "start"] = option(
        "base", "What that adapter is: `base`, merged into the weights below this run's own adapter, or `start`, the"
        " first values of this run's adapter, which trains on.", changes="parameters", to=None,
    )  # fmt: skip


class Reading(Section):
    """How rows are read and turned into tokens: set for all sources under `data`, or for one source."""

    format: RowFormat = option(
        "auto", "The rows' format, a name or a method with options; `auto` recognises it by the fields and says so.",
        changes="tokens", to="text",
    )  # fmt: skip
    augment: Augments = option(
        (), "What is made of the records as read: an augmentation, or a list of them in order.", changes="tokens",
        to="supervised_icl",
    )  # fmt: skip
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
    order: SerializeAsAny[Method] | None = option(
        None, "In which order, how often and with which weight rows are drawn; default shuffled.", changes="loss",
        to=None,
    )  # fmt: skip
    max_length: int | None = option(
        None, "Longest sequence in tokens; default the model's context.", changes="tokens", to=48, ge=2
    )
    packing: Literal["auto", "on", "off"] = option(
        "auto", "Several records in one row with attention kept apart; `auto` packs where it saves time and the model"
        " is proven to keep them apart.", changes="log", to="on",
    )  # fmt: skip
    cache: bool = option(
        True, "Keep tokenised data for the next run, found again by content hash, and for later plans what this run took"
        " against what was predicted.", changes="files", to=False,
    )  # fmt: skip


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
    watchdog: float | None = option(
        None, "Seconds without a finished step (evaluations and saves between two steps count) after which every process"
        " writes rank, step and the Python stacks of its threads to standard error, and again after each further such"
        " time; 0 for never. Default 600 where a run has several processes, never where it has one.",
        changes="log", to=None, ge=0, le=1e6,
    )  # fmt: skip

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


NESTED = {
    ("model", "quantize"): "quantizer",
    ("model", "vocabulary"): "vocabulary",
    ("model", "context"): "context",
    ("data", "order"): "order",
}
"""Keys inside a section that hold one method or none -> its kind."""

OPTIONAL = {"layers": "layers"}
"""Keys that hold one method or none -> its kind."""

LISTS = {"regularize": "regularizer", "decode": "decoder"}
"""Keys that hold a list of methods -> their kind."""

SLOTS = {"adapter": "lora", "objective": "sft", "optimizer": "adamw", "schedule": "cosine"}
"""Keys that hold one method, with the method taken when the key is absent."""
