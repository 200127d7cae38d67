"""Canvas and looks that all figures share: for print, safe for the colour-blind.

Okabe and Ito's colours, a marker and a line style of its own for each curve, one column wide.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_slif.errors import SlifError

WIDTH = 3.4
FONT = 8.0
DPI = 220
OURS_COLOUR, OTHER_COLOUR = "#D55E00", "#56B4E9"
# black is kept for text and comes late; grey stands in for yellow, which is lost on white paper
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
_STYLES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "axes.labelsize": FONT,
    "axes.titlesize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "pdf.fonttype": 42,
    "path.simplify": False,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Figure:
    """A figure that was drawn.

    Attributes:
        name: of its files.
        caption: what it shows, also for those who cannot see it.
        png: its pixels as a PNG file.
    """

    name: str
    caption: str
    png: bytes


def require_matplotlib(otherwise: str = "") -> None:
    """Check for matplotlib.

    Args:
        otherwise: how the command does without figures, where it can; ends the message.

    Raises:
        SlifError: it is not installed, with the command.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SlifError(
            "figures need matplotlib: pip install 'recbole-slif[report]' (or 'matplotlib>=3.8')"
            + otherwise
        ) from None


def line_look(ours: bool, at: int) -> dict[str, Any]:
    """Return how a curve is drawn: SLIF-MR's, or that of another, counted from 0."""
    if ours:
        return {"color": OURS_COLOUR, "marker": "o", "linestyle": "-", "zorder": 3}
    return {
        "color": COLOURS[at % len(COLOURS)],
        "marker": _MARKERS[at % len(_MARKERS)],
        "linestyle": _STYLES[at % len(_STYLES)],
    }


def file_name(*parts: str) -> str:
    """Join the parts that are not empty; letters that a path could be made of become `_`."""
    return "-".join(re.sub(r"[^\w=|,+ -]", "_", part)[:80] for part in parts if part)


def save_figure(
    folder: Path,
    name: str,
    caption: str,
    size: tuple[float, float],
    paint: Callable[[Any], None],
) -> Figure:
    """Draw on a canvas of its own, so that no global state of matplotlib is touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    style: Any = dict(STYLE)  # matplotlib's own stubs list every key
    with matplotlib.rc_context(style):
        figure = Canvas(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.add_subplot())
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        figure.savefig(folder / f"{name}.pdf", format="pdf", metadata={"CreationDate": None})
    (folder / f"{name}.png").write_bytes(stream.getvalue())
    return Figure(name, caption, stream.getvalue())
