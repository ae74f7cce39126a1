"""What all pictures share: the colours, a figure without a display, and its PNG. Needs matplotlib, imported when used."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# distinguishable without colour vision, and dark enough under the shaded shots
BAR, LINE, OTHER, MUTED = "#7aa6c2", "#c44e52", "#3b6e8f", "#999999"
SHADES = {"many": "#e8f1e4", "medium": "#fdf3d8", "few": "#f9e0dc", "zero_interp": "#e4dff0", "zero_extrap": "#e9e9e9"}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches, on white, drawn without a display.

    Raises ValueError where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("pictures need matplotlib, which is not installed: pip install matplotlib") from None
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def shade_shots(axes, edges, shots) -> None:
    """Shade the background by shot: edges (K + 1,) on the x-axis, shots (K,), each a key of `SHADES`."""
    for start, stop, shot in runs(shots):
        axes.axvspan(edges[start], edges[stop], color=SHADES[shot], lw=0, zorder=0)


def png(fig: Figure) -> bytes:
    """The figure as the bytes of a PNG. Its texts are drawn as they stand: names of columns, files and runs hold `$`.

    Characters that the font lacks are drawn as boxes, without a warning that the user could do nothing about.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    for axes in fig.axes:
        axes.spines[["top", "right"]].set_visible(False)
    for text in fig.findobj(Text):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():  # the first is for ticks made while drawing
        warnings.filterwarnings("ignore", message=r".*[Gg]lyph.*missing")
        fig.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def runs(values) -> list[tuple[int, int, str]]:
    """Neighbouring equal values as (start, stop, value)."""
    found: list[tuple[int, int, str]] = []
    for at, value in enumerate(values):
        if found and found[-1][2] == value:
            found[-1] = (found[-1][0], at + 1, value)
        else:
            found.append((at, at + 1, str(value)))
    return found
