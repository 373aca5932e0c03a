"""Interactive charts with plotly in the style of the pages, whose CSS gives them light or dark text."""

import html
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# of Okabe and Ito (2008), which colour-blind readers tell apart
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
)
GREY = "#8a8f98"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW)
CLEAR = "rgba(0,0,0,0)"
LAYOUT = {
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "colorway": PALETTE,
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
    "hoverlabel": {"font": {"family": "system-ui, sans-serif"}},
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "title": None,
}
AXIS = {"gridcolor": "rgba(128,136,150,.25)", "zerolinecolor": "rgba(128,136,150,.5)", "automargin": True}
CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}


@dataclass(frozen=True)
class Chart:
    """A plotly figure, and what it shows in a sentence for those who cannot see it. `element` is its id on
    the page, for a script that changes it. It scrolls where a screen is narrower than `min_width` pixels."""

    figure: "Figure"
    description: str
    element: str = ""
    min_width: int = 0

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.figure.layout.height or 380)

    @property
    def html(self) -> Markup:
        """A div and the script that draws into it."""
        from plotly.io import to_html

        return Markup(
            to_html(
                self.figure,
                config=CONFIG,
                include_plotlyjs=False,
                full_html=False,
                div_id=self.element or None,
                default_height=f"{self.height}px",
            )
        )


def styled(figure: "Figure", height: int = 380) -> "Figure":
    """The figure in the style of the pages, changed in place; `height` in pixels."""
    figure.update_layout(template="none", height=height, **LAYOUT)
    figure.update_xaxes(**AXIS)
    figure.update_yaxes(**AXIS)
    return figure


def plain(text: str, width: int = 30) -> str:
    """Text made of data as plotly draws it as it stands: no tag, no entity, in lines of at most `width`
    characters where it has spaces."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def script() -> str:
    """plotly.js as a script element."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"
