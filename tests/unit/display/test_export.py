"""Pictures for documents."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from rich.panel import Panel
from rich.text import Text

from amltk._doc import doc_print
from amltk.display import export, theme
from amltk.exceptions import MissingExtraError
from amltk.scheduling import Scheduler


def test_html_is_one_element_with_inline_styles() -> None:
    """HTML can be embedded in any page: one well-formed `pre` with inline styles and no class."""
    html = export.to_html(Scheduler.with_sequential(), fontsize="small", title="A <title>")
    root = ET.fromstring(html)
    assert root.tag == "pre"
    assert "font-size:small" in root.attrib["style"]
    assert "class=" not in html
    assert "<style" not in html
    assert "executor  sequential" in "".join(root.itertext())
    assert "".join(root.itertext()).startswith("A <title>\n")


def test_html_escapes_what_is_drawn() -> None:
    """Angle brackets and braces in users' text stay text."""
    root = ET.fromstring(export.to_html(Text("<b>{x}&amp;")))
    assert "".join(root.itertext()).strip() == "<b>{x}&amp;"


def test_html_takes_the_colour_of_the_page() -> None:
    """Plain text has no colour, so that it is readable on light and dark pages."""
    assert "color:" not in export.to_html(Text("plain")).partition("color:inherit")[2]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of two colours, as WCAG 2 defines it."""

    def luminance(colour: tuple[int, ...]) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("background", [(255, 255, 255), (30, 33, 41)])
def test_colours_are_readable_on_light_and_dark_pages(background: tuple[int, ...]) -> None:
    """Each colour has a contrast of at least 3:1 on white and on the dark pages of mkdocs-material."""
    for colour in theme.COLOURS:
        assert contrast(colour, background) >= 3


def test_svg_stands_by_itself() -> None:
    """SVG is well-formed, as wide as its text, and loads nothing from the network."""
    svg = export.to_svg(Scheduler.with_sequential(), fontsize="14px", title="A <title>")
    root = ET.fromstring(svg)
    assert root.attrib["style"] == "font-size:14px"
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert "sequential" in text
    assert "A <title>" in text
    assert svg.count("http") == svg.count("http://www.w3.org/2000/svg") == 1


@pytest.mark.parametrize("width", [40, 80])
def test_width(width: int) -> None:
    """Renderables of flexible width get the requested width."""
    root = ET.fromstring(export.to_html(Panel("x"), width=width))
    assert {len(line) for line in "".join(root.itertext()).strip().splitlines()} == {width}


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are the same in a terminal, in a pipe and without colours."""
    before = export.to_html(Scheduler.with_sequential())
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb"), ("COLUMNS", "20"), ("FORCE_COLOR", "")):
        monkeypatch.setenv(name, value)
    assert export.to_html(Scheduler.with_sequential()) == before


def test_svg_is_as_wide_as_what_is_drawn() -> None:
    """A picture of little text is small, and an empty one is not an error."""
    widths = [
        float(ET.fromstring(export.to_svg(Text(text)))[0].attrib["viewBox"].split()[2])
        for text in ("", "x" * 40, "x" * 80)
    ]
    assert widths == sorted(set(widths))


def test_without_rich_the_error_is_the_pip_line(no_rich: None) -> None:
    """Exporting a picture without rich raises an error that says what to install."""
    with pytest.raises(MissingExtraError, match=r"pip install 'amltk\[rich\]'"):
        doc_print(print, "x")
