"""Pictures for documents: HTML that fits into any page, and standalone SVG."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

from amltk.display import theme

if TYPE_CHECKING:
    from rich.console import RenderableType

FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"

HEIGHT = 40
"""Height of the console, in lines. If it is not set, rich takes both sizes from the terminal in some environments."""

_PRE = (
    "margin:0;padding:0;border:0;background:none;color:inherit;white-space:pre;overflow-x:auto;"
    "line-height:1.25;font-variant-ligatures:none"
)

# The same as rich's template, but with fonts that are not fetched over the network, and scaled to the page's text size.
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" style="width:__WIDTH__em;max-width:100%;height:auto" \
xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: __FONTS__; font-size: {char_height}px; line-height: {line_height}px; \
font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def to_html(renderable: RenderableType, *, width: int = 80, fontsize: str = "medium", title: str = "") -> str:
    """Draw something as one HTML element with inline styles only, for light and dark pages alike.

    Args:
        renderable: Anything that rich can draw.
        width: Columns.
        fontsize: A font size of CSS, such as `"small"` or `"14px"`.
        title: A line above the picture; empty for none.
    """
    heading = f"<strong>{html.escape(title)}</strong>\n" if title else ""
    style = f"font-size:{html.escape(fontsize)};font-family:{FONTS};{_PRE}"
    return _drawn(renderable, width).export_html(
        theme=theme.PAGE,
        inline_styles=True,
        code_format=f'<pre style="{_verbatim(style)}">{_verbatim(heading)}{{code}}</pre>',
    )


def to_svg(renderable: RenderableType, *, width: int = 80, fontsize: str = "medium", title: str = "") -> str:
    """Draw something as an SVG element, in the frame of a terminal window. Takes the same arguments as `to_html`."""
    console = _drawn(renderable, width)
    console.width = max(1, *(cell_len(line.rstrip()) for line in console.export_text(clear=False).splitlines()))
    em = f"{console.width * 0.61 + 2:.2f}"  # gives the text the requested font size if there is room
    template = _SVG.replace("__WIDTH__", em).replace("__FONTS__", FONTS)
    picture = console.export_svg(title=title, code_format=template)
    return f'<div style="font-size:{html.escape(fontsize)}">{picture}</div>'


def _drawn(renderable: RenderableType, width: int) -> Console:
    """A console that records what is drawn on it, independent of the environment."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width,
        height=HEIGHT,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
        legacy_windows=False,
        no_color=False,
    )
    console.print(renderable)
    return console


def _verbatim(text: str) -> str:
    """Escape braces, for the template that rich fills in."""
    return text.replace("{", "{{").replace("}", "}}")
