"""The tokenizer of the embedded base: byte-level BPE of 2,048 tokens, digits one by one, and a chat template.

A conversation reads `<|bos|><|user|>Hello<|end|><|assistant|>Good morning.<|end|>`. `<|end|>` closes every turn and
every text, so it is the end-of-text token too. The template writes `<|bos|>`; the tokenizer itself adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tunewright.nanoworld.corpus import corpus
from tunewright.nanoworld.skill import Row, reply

VOCABULARY = 2048
CONTEXT = 1024
PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("<|user|>", "<|assistant|>", "<|system|>", "<|tool|>")
TEMPLATE = Path(__file__).parent / "base" / "chat_template.jinja"
"""Written by hand; the rest of that folder is built."""
SAMPLE = 20_000
"""Rows of the pretraining stream from which the merges are learned."""


def build(path: str | Path) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on the world's own text and writes its folder: the same bytes every time."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, END, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(islice(corpus("tokenizer"), SAMPLE)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE.read_text(),
    )
    tokenizer.save_pretrained(str(path))
    return tokenizer


def _texts(rows: Iterator[Row]) -> Iterator[str]:
    for row in rows:
        if "text" in row:
            yield row["text"]
            continue
        yield reply(row)
        yield from (message["content"] for message in row["messages"][:-1] if "content" in message)
