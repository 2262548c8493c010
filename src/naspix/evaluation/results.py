"""What an evaluation gives: the runs of one or several networks, as tables, scores and curves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from naspix.errors import InputError, UnknownNameError
from naspix.evaluation.curves import curves_figure
from naspix.evaluation.scores import joined, picture_scores, score_rows
from naspix.evaluation.tables import joined_tables, latex_tables, markdown_tables, text_table
from naspix.report.pages import render
from naspix.runs import Failure, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Results:
    """The runs of an evaluation; what is read is what lies in their folders.

    Attributes:
        folder: Where everything lies.
        runs: Network's name -> its run.
    """

    folder: Path
    runs: Mapping[str, Run]

    def scores(self) -> "DataFrame":
        """Every figure of every method and segmenter, as ``scores.csv`` has it."""
        import pandas as pd

        return pd.DataFrame(joined(self.runs, score_rows))

    def pictures(self) -> "DataFrame":
        """Each picture's own scores, as ``pictures.csv`` has them.

        LeRF's area; for localisation the IoU at the threshold that is best for all pictures at IoU
        50; for saliency by meaning that of the most salient cluster.
        """
        return self._joined(picture_scores)

    def records(self, columns: Sequence[str] | None = None) -> "DataFrame":
        """Everything that was written down, a row a picture, method and segmenter.

        Args:
            columns: Only these.
        """
        return self._joined(lambda run: run.records(columns))

    @property
    def failures(self) -> list[Failure]:
        """The pictures that were left out, and why."""
        return [failure for run in self.runs.values() for failure in run.failures]

    @property
    def n_items(self) -> int:
        """How many pictures are done, by the network that has fewest; those left out included."""
        return min(run.n_items for run in self.runs.values())

    def to_markdown(self) -> str:
        """The tables for Markdown, as ``tables.md`` has them."""
        return markdown_tables(self.runs)

    def to_latex(self) -> str:
        """The tables for LaTeX, as ``tables.tex`` has them."""
        return latex_tables(self.runs)

    def plot(self, model: str | None = None) -> "Figure":
        """Draw the curves: mean scores while pictures are hidden, or objects found over thresholds.

        Args:
            model: Of several networks, which; the first by default.

        Raises:
            InputError: Saliency by meaning has no curves.
            UnknownNameError: There is no such network.
        """
        name = next(iter(self.runs)) if model is None else model
        if name not in self.runs:
            raise UnknownNameError.among("model of the evaluation", name, self.runs)
        figure = curves_figure(self.runs[name])
        if figure is None:
            raise InputError("this evaluation has no curves; its scores() are a table")
        return figure

    def __str__(self) -> str:
        return text_table(self.runs)

    def __repr__(self) -> str:
        kind = next(iter(self.runs.values())).kind
        done = self.n_items - len({failure.item for failure in self.failures})
        models = ", ".join(self.runs)
        return f"Results({kind}, {done} pictures, {models}, in {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        return render("tables.html.j2", "naspix.evaluation", tables=joined_tables(self.runs))

    def _joined(self, read: "Callable[[Run], DataFrame]") -> "DataFrame":
        """A table of each run, below each other; of several the first column is the network."""
        import pandas as pd

        frames = [read(run) for run in self.runs.values()]
        if len(frames) == 1:
            return frames[0].reset_index(drop=True)
        for network, frame in zip(self.runs, frames, strict=True):
            frame.insert(0, "model", network)
        return pd.concat(frames, ignore_index=True)
