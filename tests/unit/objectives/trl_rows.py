"""TRL's trainers on a tiny model, and their batches as ours."""

import pytest
import torch

from tunewright.data.batches import Batch
from tunewright.models.policy import Policy
from tunewright.testing.models import tiny, tiny_tokenizer
from tunewright.testing.runs import differs

PROMPTS = ["one ", "two and ", "three ", "a "]
GOOD = ["yes!", "no.", "of course", "b"]
BAD = ["not at all", "so", "why?", "ccccc"]


def trained_by_trl(trainer, config, rows, folder, reference=True, **options):
    """A trainer of TRL around a tiny model that has moved away from its reference, and its first batch."""
    datasets = pytest.importorskip("datasets")
    args = config(output_dir=str(folder), report_to="none", use_cpu=True, per_device_train_batch_size=4,
                  bf16=False, fp16=False, **options)  # fmt: skip
    made = trainer(
        model=tiny(), args=args, train_dataset=datasets.Dataset.from_list(rows), processing_class=tiny_tokenizer(),
        **({"ref_model": tiny()} if reference else {}),
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return made, next(iter(made.get_train_dataloader()))


def pairs_of(kind, folder, **options):
    """TRL's DPO trainer of a loss type on the pairs, with its batch."""
    trl = pytest.importorskip("trl")
    rows = [{"prompt": p, "chosen": g, "rejected": b} for p, g, b in zip(PROMPTS, GOOD, BAD, strict=True)]
    return trained_by_trl(trl.DPOTrainer, trl.DPOConfig, rows, folder, loss_type=kind, **options)


def as_pairs(found):
    """Their batch of pairs (better answers, then worse ones) as ours."""
    count = len(found["input_ids"]) // 2
    parts = [[found[name] for name in ("input_ids", "attention_mask", "completion_mask")]]
    return batch_of(parts, {"chosen": [1] * count + [0] * count})


def assert_equals_trl(made, found, objective, batch):
    """Loss and gradient of the trainer and of the objective are the same."""
    policy = Policy(made.model)
    policy.supply("reference", Policy(made.ref_model))
    theirs = made.compute_loss(made.model, found)
    ours = objective.loss(policy, batch)
    ours = ours.total / ours.weight
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    trained = [p for p in made.model.parameters() if p.requires_grad]
    vectors = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)]) for loss in (theirs, ours)]
    assert differs(*vectors) <= 1e-4


def batch_of(parts, columns):
    """Sequences as one batch: `parts` hold (ids, mask of padding, mask of the answer), `columns` a list per name."""
    rows = [
        (row[kept.bool()], answer[kept.bool()])
        for ids, padding, answers in parts
        for row, kept, answer in zip(ids, padding, answers, strict=True)
    ]
    width = max(len(ids) for ids, _ in rows)
    pad = lambda value, fill: torch.nn.functional.pad(value, (0, width - len(value)), value=fill)
    number = torch.arange(len(rows))[:, None]
    return Batch(
        ids=torch.stack([pad(ids, 0) for ids, _ in rows]),
        positions=torch.arange(width).expand(len(rows), width),
        weights=torch.stack([pad(answer.float(), 0.0) for _, answer in rows]),
        sequence=torch.stack([pad(number[i].expand(len(ids)), -1) for i, (ids, _) in enumerate(rows)]),
        indices=torch.arange(len(rows)),
        columns={name: torch.tensor(values) for name, values in columns.items()},
        token_columns={},
    )
