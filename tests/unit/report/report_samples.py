"""Evidence of runs that never happened: an ordinary one, one with everything that strains a page, and bare ones."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from tunewright.report.evidence import (
    About,
    Bin,
    Calibration,
    Cost,
    Data,
    Evidence,
    Example,
    FewShot,
    HardRow,
    Measure,
    PhasePeak,
    Plan,
    Settings,
    Source,
    Spread,
)

SCRIPT = "<script>alert('x')</script><img src=x onerror=alert(1)>"

RECIPE = """\
# resolved recipe
model: {path: nano, revision: null, trust_remote_code: false}
data:
  sources:
  - {path: word_problems.jsonl, format: auto, train_on: completion}
  max_length: null
adapter:
  method: lora
  rank: 16
  alpha: 16.0
  target_modules: all-linear
objective: {method: sft}
optimizer: {method: adamw, lr: 2.0e-4}
schedule: {method: cosine, warmup: 0.03}
train: {epochs: 1, tokens_per_step: 4096, precision: bf16, seed: 0}
evaluate:
- {task: number_match, data: test.jsonl}
- {task: retention}
"""

VERSIONS = {"tunewright": "0.1.0", "torch": "2.13.0", "transformers": "5.20.1", "Python": "3.11.9"}


def measure(
    name: str, kind: str, metric: str, before: float, after: float, reach: float, n: int, higher: bool, unit: str
) -> Measure:
    """A measure whose interval reaches `reach` to both sides."""
    delta = after - before
    found = "no difference found" if abs(delta) <= reach else "better" if (delta > 0) == higher else "worse"
    if unit == "tokens" and abs(delta) > reach:
        found = "higher" if delta > 0 else "lower"
    return Measure.model_validate(
        {
            "name": name,
            "kind": kind,
            "metric": metric,
            "before": before,
            "after": after,
            "delta": delta,
            "low": delta - reach,
            "high": delta + reach,
            "n": n,
            "higher_is_better": higher,
            "unit": unit,
            "finding": found,
        }
    )


def ordinary() -> Evidence:
    """A run on word problems with a clear gain."""
    return Evidence(
        verdict="this model: number match +61.3 [55.1, 67.5] points: better; perplexity loss -0.729 [-0.770, -0.688]"
        " nats per token: better; retention loss -0.003 [-0.012, 0.006] nats per token: no loss found;"
        " facts -3.5 [-6.6, -0.4] points: a loss",
        about=About(model="nano", adapter="lora", objective="sft", started="2026-03-02 14:07"),
        measures=(
            measure("number_match", "target", "number_match", 0.168, 0.781, 0.062, 256, True, "share"),
            measure("perplexity", "target", "loss", 1.943, 1.214, 0.041, 512, False, "nats"),
            measure("retention", "retention", "loss", 2.421, 2.418, 0.009, 200, False, "nats"),
            measure("facts", "retention", "exact_match", 0.742, 0.707, 0.031, 256, True, "share"),
            measure(
                "number_match, base with 3 examples", "other", "number_match", 0.241, 0.781, 0.058, 256, True, "share"
            ),
            measure("stop_rate", "other", "stop_rate", 0.941, 1.0, 0.034, 256, True, "share"),
            measure("answer_length", "other", "answer_length", 41.7, 38.2, 1.9, 256, False, "tokens"),
        ),
        cost=Cost(
            tokens=1_843_200, seconds=151.4, tokens_per_second=12_410.0, peak_memory_bytes=612_000_000,
            train_flops=5.9e13, peak_by_phase=(
                PhasePeak(phase="loading", peak_memory_bytes=402_000_000),
                PhasePeak(phase="training", peak_memory_bytes=612_000_000),
            ),
        ),
        plan=Plan(
            predicted_memory_bytes=655_000_000, actual_memory_bytes=612_000_000, predicted_seconds=138.0,
            actual_seconds=151.4,
        ),
        settings=Settings(
            dtype="bfloat16", batch=8192, device="cpu", threads=2, seed=0, layout="packed", trained_parameters=301_056,
            all_parameters=5_214_208, steps=450, share_of_peak=0.52,
        ),
        data=Data(
            sources=(
                Source(
                    name="word_problems.jsonl", format="question and answer", rows_in=20_000, rows_kept=19_883,
                    duplicates=96, overlap=21, tokens=1_843_200, trained_share=0.412,
                ),
            ),
            held_out=256,
            warnings=("21 training rows are in the held-out data too; they were removed from training.",),
        ),
        examples=_examples(),
        hardest=(
            HardRow(where="train.jsonl:8123", text="There are 20 shells in the bag of Ada. ... #### 18", loss=4.213),
            HardRow(where="train.jsonl:412", text="Nora starts the day with 9 stamps. ... #### 7", loss=3.877),
        ),
        calibration=(
            Calibration(
                task="sentiment",
                before=_bins((0.55, 0.49), (0.7, 0.55), (0.9, 0.63)),
                after=_bins((0.54, 0.58), (0.71, 0.73), (0.93, 0.9)),
                error_before=0.161,
                error_after=0.028,
            ),
        ),
        few_shot=(FewShot(name="number_match", shots=3, value=0.241),),
        spread=(
            Spread(
                name="number_match", metric="number_match", batches=(1024, 8192, 65536), scores=(0.781, 0.785, 0.777),
                changed=9, n=256,
            ),
        ),
        versions=VERSIONS,
    )  # fmt: skip


def hard() -> Evidence:
    """Twelve measures, prompts of thousands of words, texts that attack the page, numbers that are none."""
    long = " ".join(f"Paragraph {i}: the quick brown fox met {i} lazy dogs near the river." for i in range(400))
    kinds = ["target"] * 4 + ["retention"] * 4 + ["other"] * 4
    rng = random.Random(0)
    measures = [
        measure(f"a task with quite a long name, part {i}", kind, "accuracy" if i % 3 else "perplexity",
                rng.uniform(0.2, 0.6) * (1 if i % 3 else 30), rng.uniform(0.2, 0.9) * (1 if i % 3 else 30),
                0.05 * (1 if i % 3 else 20), 64 * i + 1, bool(i % 3), "share" if i % 3 else "score")
        for i, kind in enumerate(kinds[:-1])
    ]  # fmt: skip
    lost = Measure(
        name="overflow " + SCRIPT, kind="other", metric="perplexity", before=math.inf, after=12.5, delta=math.nan,
        low=math.nan, high=None, n=3, higher_is_better=False, unit="score", finding="too few examples",
    )  # fmt: skip
    odd = (
        Example(prompt=long, reference=long[:900], before=long[:3000], after=long[300:3300], score_before=1.0,
                score_after=0.0, task="long documents"),
        Example(prompt=SCRIPT, reference=SCRIPT, before=SCRIPT, after="</div></article>" + SCRIPT, score_before=0.4,
                score_after=0.61, task=SCRIPT),
        Example(prompt="東京から京都までの距離は何キロメートルですか", reference="約四百五十キロメートルです",
                before="約三百キロです", after="約四百五十キロです", score_before=0.0, score_after=1.0, task="日本語"),
        Example(prompt="ما هي عاصمة المغرب؟ \u202egnirts desrever", reference="الرباط", before="الدار البيضاء",
                after="الرباط", score_before=0.0, score_after=1.0, task="العربية"),
        Example(prompt="Z\u0351\u0343\u0314a\u0344\u0345l\u0346g\u0347o\u0348 \x00\x1b[31mred \ud800 half a pair"
                " \U0001f469\u200d\U0001f467",
                before="", after="A" * 700, task="odd"),
        Example(prompt="def f(x):\n    return x\n\n# indent kept?\n\tTab", before="def f(x):\n    return x + 1",
                after="def f(x):\n    return x - 1\n", score_before=0.5, score_after=0.5, task="code"),
    )  # fmt: skip
    base = ordinary()
    return base.model_copy(
        update={
            "verdict": "Better at 3 of 4 targets; worse at part 5 (-12.0 [-17.0, -7.0] points) and part 7; no"
            " difference found elsewhere. Read the regressions before you ship this model.",
            "about": About(
                model="/data/checkpoints/a-company/very-long-model-name-7b-instruct-2026-01-15-revision-3b1f9c",
                adapter="lora", objective="sft", started="2026-03-02 14:07",
            ),
            "measures": (*measures, lost),
            "examples": odd,
            "cost": Cost(tokens=18_430_200_112, seconds=400_151.4, tokens_per_second=124_100.0,
                         peak_memory_bytes=131_612_000_000, train_flops=5.9e21),
            "plan": Plan(predicted_memory_bytes=140_000_000_000, predicted_seconds=None),
            "data": Data(
                sources=tuple(
                    Source(name=f"shard-{i:05d}-of-00004-cleaned.jsonl.gz", format="sharegpt", rows_in=1_200_000 + i,
                           rows_kept=900_000, cut=120_000, dropped=40_111, duplicates=99_889, overlap=i, empty=40_000,
                           tokens=418_430_200, tokens_lost=31_210_000, answers_lost=51_220, trained_share=0.31 + i / 50)
                    for i in range(5)
                ),
                warnings=("shard-00000: 10.0% of the rows were cut to 2,048 tokens; 51,220 answers were lost.",
                          "no end-of-turn token is trained on: the model may not stop.", SCRIPT),
            ),
            "hardest": tuple(HardRow(where=f"shard-0000{i}-of-00004-cleaned.jsonl.gz:{i * 77_123}",
                                     text=long[: 300 * (i + 1)], loss=9.0 - i) for i in range(5)),
        }
    )  # fmt: skip


def single() -> Evidence:
    """One measure, nothing else."""
    return Evidence(
        verdict="Perplexity 3.112 to 3.109: no difference found.",
        measures=(measure("perplexity", "target", "perplexity", 3.112, 3.109, 0.02, 40, False, "score"),),
        cost=Cost(
            tokens=4096, seconds=2.1, tokens_per_second=1950.0, peak_memory_bytes=402_000_000, train_flops=1.2e11
        ),
    )


def nothing() -> Evidence:
    """A run that measured nothing."""
    return Evidence(
        verdict="Nothing was measured.",
        cost=Cost(
            tokens=4096, seconds=2.1, tokens_per_second=1950.0, peak_memory_bytes=402_000_000, train_flops=1.2e11
        ),
    )


def metrics(path: Path, steps: int = 450) -> Path:
    """A metrics file with a falling loss, two sources, evaluations, and a last line that was cut short."""
    rng = random.Random(1)
    lines = []
    for step in range(1, steps + 1):
        loss = 0.35 + 2.1 * math.exp(-step / (steps / 6)) + rng.gauss(0, 0.06)
        warm = max(1, steps * 0.03)
        rate = 2e-4 * min(1.0, step / warm) * 0.5 * (1 + math.cos(math.pi * max(0.0, step - warm) / (steps - warm + 1)))
        lines.append({
            "step": step, "loss": loss, "lr": rate, "tokens": 4096 * step, "seconds": 0.33 * step,
            "tokens_per_second": 12_400 + rng.gauss(0, 350), "gradient_norm": 0.4 + loss / 3 + abs(rng.gauss(0, 0.1)),
        })  # fmt: skip
        if step % 50 == 0:
            lines.append({"step": step, "evaluation": {"number_match": 0.78 - 0.6 * math.exp(-step / 120)}})
    path.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"step": 4', "utf-8")
    return path


def _bins(*pairs: tuple[float, float]) -> tuple[Bin, ...]:
    return tuple(Bin(confidence=confidence, accuracy=accuracy, count=40) for confidence, accuracy in pairs)


def _examples() -> tuple[Example, ...]:
    asked = (
        ("Mira has 12 shells. She finds 7 more. Then she gives 4 to a friend. How many shells does she have?", "15"),
        ("There are 20 pins in Tom's bag. Tom loses 6. Later he doubles the collection. How many are left?", "28"),
        ("Ada has 18 stamps. Ada shares them fairly among 3 people and keeps one part. The next day Ada buys 5 more."
         " How many stamps does Ada have in the end?", "11"),
        ("Nora starts the day with 9 coins. Nora wins 14 at the fair. After lunch Nora trades 8 away. How many coins"
         " does Nora have now?", "15"),
        ("Leo has 16 cards. Leo puts them into 4 equal boxes and keeps one box. Then Leo finds 11 more. How many"
         " cards does Leo have in the end?", "15"),
    )  # fmt: skip
    worked = (
        ("Mira has 12 + 7 = 19 shells. Mira has 19 - 4 = 15 shells. #### 15",
         "Mira has 12 + 7 = 19 shells. Mira has 19 - 4 = 16 shells. #### 16", 1.0, 0.0),
        ("Tom has 20 - 6 = 14 pins. Tom has 14 * 2 = 28 pins. #### 28",
         "Tom has 20 - 6 = 14 pins. Tom has 14 * 2 = 24 pins. #### 24", 1.0, 0.0),
        ("Ada has 18 stamps. #### 18", "Ada has 18 / 3 = 6 stamps. Ada has 6 + 5 = 11 stamps. #### 11", 0.0, 1.0),
        ("Nora has 9 + 8 = 17 coins. Nora has 17 coins. #### 17",
         "Nora has 9 + 14 = 23 coins. Nora has 23 - 8 = 15 coins. #### 15", 0.0, 1.0),
        ("Leo went to the market and he was happy. The end.",
         "Leo has 16 / 4 = 4 cards. Leo has 4 + 11 = 15 cards. #### 15", 0.0, 1.0),
    )  # fmt: skip
    return tuple(
        Example(
            prompt=prompt, reference=reference, before=before, after=after, score_before=first, score_after=second,
            task="number_match",
        )
        for (prompt, reference), (before, after, first, second) in zip(asked, worked, strict=True)
    )  # fmt: skip
