"""What a run shows: a bar on a terminal, lines of figures everywhere else."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

FIGURES = {"loss": ".4f", "learning_rate": ".2e", "grad_norm": ".3g", "tokens_per_second": ",.0f"}


class Screen(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Steps and figures on stderr, by the first process alone."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Open the bar."""
        if not (state.is_world_process_zero and self.console.is_terminal):
            return
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.description}"), console=self.console)
        self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> None:
        """A line, or the text beside the bar; evaluations always get a line."""
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs:
            text = "  ".join(f"{n} {logs[n]:{f}}" for n, f in FIGURES.items() if n in logs)
            text += "".join(f"  {n} {v:.4f}" for n, v in logs.items() if n.startswith("loss_"))
            if logs.get("bad_samples"):
                text += f"  bad samples {logs['bad_samples']:.0f}"
            if self.bar is not None:
                self.bar.update(self.task, description=text)
                return
        else:
            text = "  ".join(f"{n} {v:.4g}" for n, v in logs.items() if n != "epoch")
        self.console.print(f"[dim]step {state.global_step}/{state.max_steps}[/]  {text}", soft_wrap=True)

    def close(self, *_: Any, **__: Any) -> None:
        """Close the bar, also where the run ended in an error."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    on_train_end = close
