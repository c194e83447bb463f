"""Loading a pretrained causal language model and its tokenizer, safetensors only, and proving how it may be used."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from tunewright.errors import BadInput
from tunewright.models.context.base import Context
from tunewright.models.growing import check_rows, grow
from tunewright.models.policy import Policy
from tunewright.models.vocabulary.base import Vocabulary
from tunewright.network import hub
from tunewright.recipe import EMBEDDED, AddedTokens, ModelSpec

EMBEDDED_FOLDER = Path(__file__).parent.parent / "nanoworld" / "base"
"""The embedded model: architecture, tokenizer and weights."""


@dataclass(frozen=True)
class Loaded:
    """A model ready for tuning: the policy, its tokenizer, and the longest sequence it was made for (None: any).

    `hashes` are the SHA-256 of files of rows that its weights were fitted to on loading, by path.
    """

    policy: Policy
    tokenizer: Any
    context: int | None
    origin: str
    hashes: Mapping[str, str] = field(default_factory=dict)


def locate(spec: ModelSpec, field: str = "model.path") -> str:
    """The folder or hub id a recipe's model means; `field` is the one at fault if there is none.

    Raises `BadInput` when it is neither an existing folder with a configuration nor of the form OWNER/NAME.
    """
    if spec.path == EMBEDDED:
        return named(spec.path)
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadInput("the model folder has no config.json", file=folder, field=field)
        return str(folder)
    if folder.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", spec.path) or spec.path.startswith("."):
        raise BadInput(
            "no such model folder",
            field=field,
            found=spec.path,
            expected=f"a folder with config.json, a hub id OWNER/NAME, or '{EMBEDDED}'",
        )
    return spec.path


def named(path: str) -> str:
    """The folder of the embedded model for its name; any other path or hub id as it is."""
    return str(EMBEDDED_FOLDER) if path == EMBEDDED else path


def tokenizer_at(origin: str, field: str, **options: Any) -> Any:
    """The tokenizer of a folder or hub id; `options` go to transformers, `field` is the one at fault if there is none."""
    from transformers import AutoTokenizer

    try:
        with hub(origin):
            return AutoTokenizer.from_pretrained(origin, **options)
    except Exception as error:
        raise _not_loaded("tokenizer", error, origin, field) from None


def load_tokenizer(spec: ModelSpec) -> Any:
    """The model's tokenizer, or that of the recipe's vocabulary, with the recipe's added tokens and chat template.

    Raises `BadInput` when there is none, or it has no end-of-sequence token.
    """
    origin = locate(spec)
    tokenizer = tokenizer_at(origin, "model.path", revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    if spec.vocabulary is not None:
        tokenizer = cast(Vocabulary, spec.vocabulary).tokenizer(tokenizer)
    if tokenizer.eos_token_id is None:
        raise BadInput(
            "the tokenizer names no end-of-sequence token, so the model could never learn to stop",
            file=origin,
            field="model.path",
            hint="Set eos_token in its tokenizer_config.json.",
        )
    if spec.add_tokens.tokens:
        tokenizer.add_tokens(list(spec.add_tokens.tokens), special_tokens=spec.add_tokens.special)
    if spec.chat_template is not None:
        try:
            tokenizer.chat_template = Path(spec.chat_template).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"cannot be read: {getattr(error, 'strerror', None) or error}",
                file=spec.chat_template,
                field="model.chat_template",
            ) from None
    return tokenizer


def resolve_precision(precision: Literal["auto", "bf16", "fp32"]) -> Literal["bf16", "fp32"]:
    """`auto` as this machine's processor decides: bf16 where it multiplies in bf16, else fp32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    fast = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in fast) else "fp32"


def load(spec: ModelSpec, precision: Literal["bf16", "fp32"] = "fp32", device: torch.device | str = "cpu") -> Loaded:
    """Loads model and tokenizer, grows the vocabulary, and proves that hidden states times head are the logits.

    Raises `BadInput` for missing files, damaged or pickled weights, tensors that lack or do not fit.
    """
    tokenizer = load_tokenizer(spec)
    origin = locate(spec)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = _load_model(spec, origin, dtype).to(device)
    if spec.context is not None:
        cast(Context, spec.context).apply(model)
    bare = spec.model_copy(update={"add_tokens": AddedTokens()})
    plain = load_tokenizer(bare) if spec.add_tokens.tokens else tokenizer
    if spec.vocabulary is not None:
        own = load_tokenizer(bare.model_copy(update={"vocabulary": None}))
        check_rows(model, own, origin)
        cast(Vocabulary, spec.vocabulary).apply(model, own, plain)
    check_rows(model, plain, origin)
    grow(model, tokenizer, plain, spec.add_tokens)
    model.eval()
    policy = Policy(model, plain_head=head_is_plain(model))
    return Loaded(policy, tokenizer, context_of(model.config), origin)


def context_of(config: Any) -> int | None:
    """The longest sequence of a configuration, None where positions have no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


@torch.no_grad()
def head_is_plain(model: Any) -> bool:
    """Whether the model's logits are head(last hidden state): not so with soft caps or logit scales.

    The hidden states of a short probe are enlarged on their way to the head until the logits are far from zero, so
    that a soft cap shows.
    """
    head, body = model.get_output_embeddings(), model.base_model
    if head is None or body is model:
        return False
    seen: list[Tensor] = []

    def enlarge(module: nn.Module, args: object, output: Any) -> Any:
        hidden = output.last_hidden_state
        output.last_hidden_state = hidden * (50.0 / head(hidden).float().std().clamp(min=1e-6)).to(hidden.dtype)
        seen.append(output.last_hidden_state)
        return output

    handle = body.register_forward_hook(enlarge)
    try:
        own = model(input_ids=_probe(model, 1, 5), use_cache=False).logits.float()
        plain = head(seen[0]).float() if seen else own + 1
    finally:
        handle.remove()
    return own.shape == plain.shape and bool((own - plain).norm() <= 1e-2 * own.norm())


@torch.no_grad()
def packs(policy: Policy, longest: int) -> bool:
    """Whether packed sequences see only themselves: the logits of two packed probes equal those alone.

    Where the model attends through a sliding window shorter than `longest`, the probes are longer than the window.
    """
    window = getattr(policy.model.config, "sliding_window", None) or 0
    first, second = (window + 3, window // 2 + 2) if 0 < window < longest else (7, 5)
    ids = _probe(policy.model, 1, first + second)
    parts = (ids[:, :first], ids[:, first:])
    positions = torch.cat([torch.arange(part.shape[1], device=ids.device) for part in parts])[None]
    body = policy.model.base_model
    try:
        with policy.computing():
            packed = body(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state.float()
            alone = torch.cat([body(input_ids=p, use_cache=False).last_hidden_state for p in parts], 1).float()
    except (TypeError, ValueError, RuntimeError):
        return False
    tolerance = 1e-4 if next(policy.parameters()).dtype == torch.float32 else 3e-2
    return bool((packed - alone).norm() <= tolerance * alone.norm())


def _probe(model: Any, rows: int, width: int) -> Tensor:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (rows, width), generator=generator).to(model.device)


def _load_model(spec: ModelSpec, origin: str, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()

    if spec.from_scratch:
        return _from_scratch(spec, origin)
    _refuse_pickles(origin)
    trusted = {"trust_remote_code": spec.trust_remote_code}
    try:
        with warnings.catch_warnings(), hub(origin):
            warnings.simplefilter("ignore")
            config = _configured(AutoConfig.from_pretrained(origin, revision=spec.revision, **trusted), spec)
            model, report = AutoModelForCausalLM.from_pretrained(
                origin,
                config=config,
                revision=spec.revision,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **trusted,
            )
    except Exception as error:
        raise _not_loaded("model", error, origin) from None
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])])
        raise BadInput(
            f"the weights do not fill the model: {len(lacking)} tensors lack or do not fit, such as '{lacking[0]}'",
            file=origin,
            field="model.path",
        )
    return model


def load_body(origin: str, field: str, **options: Any) -> Any:
    """A model without a head, causal or an encoder, in float32; `field` is the one at fault if there is none.

    Raises `BadInput` as `load` does. A pooling layer may lack, since nothing reads it.
    """
    from transformers import AutoModel

    _refuse_pickles(origin, field)
    try:
        with warnings.catch_warnings(), hub(origin):
            warnings.simplefilter("ignore")
            model, report = AutoModel.from_pretrained(
                origin, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:
        raise _not_loaded("model", error, origin, field) from None
    if lacking := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
        raise BadInput(f"the weights do not fill the model: '{lacking[0]}' lacks", file=origin, field=field)
    return model


def _from_scratch(spec: ModelSpec, origin: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    trusted = {"trust_remote_code": spec.trust_remote_code}
    try:
        with hub(origin):
            config = AutoConfig.from_pretrained(origin, revision=spec.revision, **trusted)
            return AutoModelForCausalLM.from_config(_configured(config, spec), dtype=torch.float32, **trusted)
    except Exception as error:
        raise _not_loaded("model", error, origin) from None


def _configured(config: Any, spec: ModelSpec) -> Any:
    """The configuration as the recipe's context changes it."""
    if spec.context is not None:
        cast(Context, spec.context).configure(config.get_text_config())
    return config


def _refuse_pickles(origin: str, field: str = "model.path") -> None:
    folder = Path(origin)
    if not folder.is_dir():
        return
    index = folder / "model.safetensors.index.json"
    wanted = {"model.safetensors"}
    if index.is_file():
        try:
            wanted = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError):
            raise BadInput("not a readable index of weights", file=index, field=field) from None
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"'{pickled[0]}' is a pickle, which can run code: convert it to safetensors." if pickled else None
        raise BadInput("the model folder lacks its weights", file=folder, field=field, expected=missing[0], hint=hint)


def _not_loaded(what: str, error: Exception, origin: str, field: str = "model.path") -> BadInput:
    if isinstance(error, BadInput):
        return error
    hint = None
    if "trust_remote_code" in str(error):
        hint = "Once you have read that code and trust it: 'model: {trust_remote_code: true}'."
    return BadInput(f"the {what} cannot be loaded: {_first_line(error)}", file=origin, field=field, hint=hint)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def describe(spec: ModelSpec) -> tuple[int | None, int]:
    """(longest sequence or None, embedding rows) by the model's configuration, without loading weights."""
    from transformers import AutoConfig

    origin = locate(spec)
    try:
        with hub(origin):
            config = AutoConfig.from_pretrained(
                origin, revision=spec.revision, trust_remote_code=spec.trust_remote_code
            )
    except Exception as error:
        raise _not_loaded("model", error, origin) from None
    config = _configured(config, spec).get_text_config()
    if spec.vocabulary is not None:
        return context_of(config), len(load_tokenizer(spec))
    return context_of(config), int(config.vocab_size) + len(spec.add_tokens.tokens)
