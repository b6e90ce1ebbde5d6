"""Trains both versions on January to March 2013, saves them as TorchScript, scores the year."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from data import Flights, load_flights, training_split
from model import FeatureEncoder, LateFlight
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scores import MONTHS, Score, score, score_table
from torch import Tensor, nn

MODELS = Path(__file__).resolve().parent / "models"
METRICS = MODELS / "metrics.json"
SEED = 2013
BATCH_ROWS = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one version is built and trained."""

    hidden: tuple[int, ...]
    dropout: float
    weight_decay: float
    epochs: int
    learning_rate: float

    def steps(self, rows: int) -> int:
        """Optimiser steps for a training set of this many rows."""
        return self.epochs * (rows // BATCH_ROWS)


RECIPES = {
    "1": Recipe(hidden=(), dropout=0.0, weight_decay=0.0, epochs=5, learning_rate=1e-2),
    "2": Recipe(hidden=(64, 32), dropout=0.4, weight_decay=0.3, epochs=6, learning_rate=1e-3),
}


def train(
    recipe: Recipe, flights: Flights, on_step: Callable[[], object] = lambda: None
) -> LateFlight:
    """A fitted model in eval mode, the same on every run; at least BATCH_ROWS flights.

    on_step is called after each of recipe.steps(len(flights)) steps.
    """
    assert len(flights) >= BATCH_ROWS
    torch.manual_seed(SEED)
    features = torch.from_numpy(flights.features)
    target = torch.from_numpy(flights.late).float().unsqueeze(1)
    model = LateFlight(FeatureEncoder(features), recipe.hidden, recipe.dropout).train()
    encoded = model.encoder(features)  # nothing in it is trained, so once is enough
    optimizer = torch.optim.AdamW(
        model.head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps(len(flights))
    )
    loss_of = nn.BCEWithLogitsLoss()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(flights))
        # The last, short batch of an epoch is left out; the next shuffle picks other rows.
        for batch in order[: len(order) // BATCH_ROWS * BATCH_ROWS].view(-1, BATCH_ROWS):
            optimizer.zero_grad()
            loss_of(model.head(encoded[batch]), target[batch]).backward()
            optimizer.step()
            schedule.step()
            on_step()
    return model.eval()


def to_torchscript(model: LateFlight, example: Tensor) -> torch.jit.ScriptModule:
    """The same function without Python; example: f4[n, features], n only an example."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
        script: torch.jit.ScriptModule = torch.jit.trace(model, example)  # type: ignore[no-untyped-call]
    return script


def save_torchscript(script: torch.jit.ScriptModule, path: Path) -> None:
    """Writes a file that torch.jit.load, and so `kedge serve`, reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
        script.save(str(path))


def predict(model: nn.Module, flights: Flights) -> npt.NDArray[np.float32]:
    """f4[n]: probability of arriving late."""
    with torch.inference_mode():
        probability: Tensor = model(torch.from_numpy(flights.features))
    return probability.squeeze(1).numpy()


def evaluate(models: dict[str, LateFlight], flights: Flights) -> dict[str, dict[str, Score]]:
    """Scores by period and version: the held-out days of the training months, then each month."""
    _, holdout, later = training_split(flights)
    periods = {"Jan-Mar": holdout} | {
        MONTHS[month]: later.where(later.month == month) for month in np.unique(later.month)
    }
    return {
        period: {
            version: score(rows.late, predict(model, rows)) for version, model in models.items()
        }
        for period, rows in periods.items()
    }


def main() -> None:
    """Trains, saves and prints a table; the metrics file comes last, as the mark of a whole run."""
    torch.set_num_threads(1)  # matrices this small gain nothing, and the result stays the same
    console = Console(highlight=False)
    console.print("Reading the flights and the weather of New York, 2013 ...")
    flights = load_flights()
    training, _, _ = training_split(flights)
    METRICS.unlink(missing_ok=True)
    models = {}
    bars = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*bars, console=console) as progress:
        for version, recipe in RECIPES.items():
            steps = recipe.steps(len(training))
            task = progress.add_task(f"Training version {version}", total=steps)
            model = train(recipe, training, on_step=partial(progress.advance, task))
            script = to_torchscript(model, torch.from_numpy(training.features[:2]))
            save_torchscript(script, MODELS / version / "model.pt")
            models[version] = model
    scores = evaluate(models, flights)
    console.print(score_table(f"Trained on {len(training):,} flights of January to March", scores))
    METRICS.write_text(json.dumps(_as_json(len(training), scores), indent=2) + "\n")
    console.print(f"Saved {len(models)} versions and metrics.json under {MODELS}")


def _as_json(rows_trained: int, scores: dict[str, dict[str, Score]]) -> dict[str, object]:
    return {
        "rows_trained": rows_trained,
        "scores": {
            period: {version: asdict(each) for version, each in by_version.items()}
            for period, by_version in scores.items()
        },
    }


if __name__ == "__main__":
    main()
