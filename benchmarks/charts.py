"""The grid's curves as PNG files: for each model, requests per second and latencies over the number of clients."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from grid_report import Cell
from matplotlib import pyplot
from matplotlib.axes import Axes

_DPI = 110
_SUBTITLE = "p99 solid, p50 dashed;\ncrossed: requests failed, or the load generator was busy"


def draw(cells: Sequence[Cell], directory: Path) -> Iterator[Path]:
    """Write one file for each model; their paths."""
    for model in dict.fromkeys(cell.point.model for cell in cells):
        path = directory / f"grid_{model}.png"
        closed = [cell for cell in cells if cell.point.model == model and cell.point.share is None]
        _draw_model(model, closed, path)
        yield path


def _draw_model(model: str, cells: Sequence[Cell], path: Path) -> None:
    forms = list(dict.fromkeys(cell.point.form for cell in cells))
    figure, axes = pyplot.subplots(2, len(forms), figsize=(4.2 * len(forms), 7), sharex=True, squeeze=False)
    for column, form in enumerate(forms):
        rates, latencies = axes[0][column], axes[1][column]
        for number, server in enumerate(dict.fromkeys(cell.server for cell in cells)):
            found = [each for each in cells if (each.point.form, each.server) == (form, server)]
            _draw_server(rates, latencies, server, f"C{number}", found)
        rates.set_title(form.title)
        rates.set_ylim(bottom=0)
        latencies.set_yscale("log")
        latencies.set_xscale("log", base=2)
        counts = sorted({each.point.clients for each in cells})
        latencies.set_xticks(counts, map(str, counts))
        latencies.set_xlabel("clients")
    axes[0][0].set_ylabel("requests/s")
    axes[1][0].set_ylabel("ms")
    axes[0][0].legend()
    figure.suptitle(f"{model}\n{_SUBTITLE}", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _draw_server(rates: Axes, latencies: Axes, server: str, color: str, cells: Sequence[Cell]) -> None:
    clients = [each.point.clients for each in cells]
    # Quantiles that are not known are NaN, which leaves a gap.
    lines = (
        (rates, [each.figures.requests_per_s for each in cells], {"label": server}),
        (latencies, [each.figures.p99_ms for each in cells], {}),
        (latencies, [each.figures.p50_ms for each in cells], {"linestyle": "--"}),
    )
    noted = [number for number, each in enumerate(cells) if each.note]
    for axes, values, style in lines:
        axes.plot(clients, values, marker="o", color=color, **style)
        crossed = [clients[number] for number in noted], [values[number] for number in noted]
        axes.plot(*crossed, linestyle="", marker="x", markersize=12, color=color)
