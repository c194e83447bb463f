"""Commands that use a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli._app import Changes, Json, app, print_json


@app.command()
def evaluate(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    set_: Changes = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Also measure with other batch sizes: how far answers move by that alone.")
    ] = False,
    json_: Json = False,
) -> None:
    """Measure a finished run again, base beside tuned; first replays the run's fixtures and stops on a difference.

    Other tasks: --set 'evaluate=[{task: exact_match, data: test.jsonl}]'.
    """
    from tunewright.evaluate.measure import compare, verdict
    from tunewright.report import console
    from tunewright.results import grids
    from tunewright.tuned import load

    tuned = load(run_folder, set_ or ())
    before, after, shots = tuned.scores()
    measures, tables = compare(before, after, shots), list(grids(before, after))
    spreads = tuned.spread() if spread else []
    if json_:
        found = {"verdict": verdict(measures), "measures": [one.model_dump(mode="json") for one in measures]}
        found |= {"tables": [one.model_dump(mode="json") for one in tables]} if tables else {}
        print_json(found | ({"spread": [one.model_dump(mode="json") for one in spreads]} if spread else {}))
        return
    console.show_measures(verdict(measures), measures, tables)
    for one in spreads:
        scores = ", ".join(f"{score:.4g} at {size}" for score, size in zip(one.scores, one.batches, strict=True))
        typer.echo(f"{one.name}: {scores} positions at once; {one.changed} of {one.n} answers differ")


@app.command()
def chat(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    temperature: Annotated[float, typer.Option(help="0 for the most likely answer.", min=0)] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.", min=1)] = 256,
) -> None:
    """Talk to base and tuned model side by side in the terminal; an empty line or Ctrl-D ends."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel

    from tunewright.models.generate import Decoding, Sampler
    from tunewright.tuned import load

    tuned = load(run_folder)
    console = Console()
    stop = tuned.assembly.subject().stop
    decoding = Decoding(max_new_tokens=max_new_tokens, stop=stop, sampler=Sampler(temperature=temperature))
    while True:
        try:
            prompt = console.input("[bold]you>[/bold] ")
        except EOFError:
            break
        if not prompt.strip():
            break
        base, answer = tuned.answer(prompt, decoding)
        width = max(20, console.width // 2 - 1)
        console.print(Columns([Panel(base, title="base", width=width), Panel(answer, title="tuned", width=width)]))


@app.command()
def export(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the model.")],
    form: Annotated[
        str, typer.Option("--form", help="'merged' (a whole checkpoint) or 'adapter' (PEFT format).")
    ] = "merged",
    max_kl: Annotated[
        float, typer.Option(help="Largest KL between adapter and merged model, in nats per token.")
    ] = 0.01,
    json_: Json = False,
) -> None:
    """Write the tuned model for use elsewhere, with tokenizer, template, stop tokens and card; checked before it counts.

    Reports the logit difference, KL and top-1 agreement between adapter on base and merged weights, and refuses over
    the threshold.
    """
    from dataclasses import asdict

    from tunewright.errors import BadInput
    from tunewright.export import export as write
    from tunewright.tuned import load

    if form not in ("merged", "adapter"):
        raise BadInput("no such form", field="--form", found=form, expected="merged or adapter")
    check = write(load(run_folder), output, form, max_kl)  # type: ignore[arg-type]
    found = {"output": str(output), "form": form, "check": asdict(check) if check else None}
    if json_:
        print_json(found)
    else:
        typer.echo(f"wrote {output} ({form})")
        if check:
            typer.echo(
                f"merged against base plus adapter on {check.tokens} held-out tokens: largest logit difference "
                f"{check.largest_difference:.2g}, mean {check.mean_difference:.2g}, KL {check.kl:.2g} nats per token, "
                f"top-1 agreement {check.top1_agreement:.2%}"
            )
