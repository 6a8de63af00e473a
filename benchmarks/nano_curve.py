"""The losses of the nano stages as a picture: nano_curve.py runs/nano docs/nano_curve.png."""

from __future__ import annotations

import sys
from pathlib import Path


def losses(run: Path) -> tuple[list[int], list[float]]:
    """Steps and losses that a run wrote for VisualDL."""
    from visualdl import LogReader

    points = {}
    for file in sorted((run / "visualdl").rglob("*.log")):
        for point in LogReader(file_path=str(file)).get_data("scalar", "train/loss"):
            points[point.id] = point.value
    return sorted(points), [points[step] for step in sorted(points)]


def main(runs: str, picture: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3), sharey=True)
    titles = ("stage 1 (with the loss of characters)", "stage 2", "stage 3 (box and color join)")
    for number, (axis, title) in enumerate(zip(axes, titles, strict=True), start=1):
        steps, values = losses(Path(runs) / f"stage{number}")
        axis.plot(steps, values, linewidth=1)
        axis.set(title=title, xlabel="step of 16 pages", yscale="log")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("loss")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:3])
