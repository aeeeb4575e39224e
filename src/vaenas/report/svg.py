"""How figures look, and how they become `<svg>` elements that follow the page's light or dark colours."""

import io
import re
import warnings
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

WIDTH = 9.2  # inches; the page's text column

# Neutral colours. Inside the page they become CSS variables, so that figures follow the reader's colour scheme.
INK, MUTED, GRID, PAPER = "#20252e", "#667080", "#e2e5ea", "#fffffe"
THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}

# Okabe & Ito, "Color universal design" (2008), without the two that stand for learned and uniform draws, then two of
# Tol's. One colour is one operation in every figure.
OPERATIONS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#882255", "#999933")
LEARNED = "#d55e00"
UNIFORM = "#848c98"
SERIES = "#4a6fa5"

STYLE: dict[Any, Any] = {  # matplotlib types the keys, differently by version
    "font.family": "DejaVu Sans",  # wide: what fits with it fits with the page's fonts
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "legend.frameon": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}


def operation_colour(index: int) -> str:
    """The colour of an operation, `#rrggbb`; after eight operations the colours come again."""
    return OPERATIONS[index % len(OPERATIONS)]


def to_svg(figure: Figure, name: str) -> Markup:
    """Gives `figure` as one inline `<svg>` element, without size, so that the page sets it.

    matplotlib escapes its texts; `name` is ours.

    Args:
        name: opens every id of the element, so that figures of one page never share an id.
    """
    buffer = io.StringIO()
    # Text stays text: searchable, small, in the page's font. The salt makes equal runs give equal bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has more fonts
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _adapt_tag(tag[0], name), svg)
    return Markup(re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2))


def _adapt_tag(tag: str, name: str) -> str:
    """Prefixes ids and what refers to them, and turns neutral colours into the page's variables."""
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    for colour, variable in THEME.items():
        tag = tag.replace(colour, variable)
    return tag
