"""The page itself: as the server sends it, and as one file that has everything in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from typing import Any

SCRIPTS = ("words.js", "source.js", "series.js", "timeline.js", "calls.js", "sections.js", "main.js")
"""The parts of the page's script, in order; each uses those before it."""

STYLE = "page.css"


def served(names: list[str]) -> str:
    """The page as the server sends it, which then requests the experiments with these names."""
    style = f'<link rel="stylesheet" href="assets/{STYLE}">'
    script = "\n".join(f'<script defer src="assets/{name}"></script>' for name in SCRIPTS)
    return _filled(title=" · ".join(names), policy="", style=style, script=script, setup={"names": names})


def embedded(experiments: list[dict[str, Any]]) -> str:
    """The page as one file, which requests nothing.

    Args:
        experiments: Of each the `overview`, some `calls`, their `count` with those left out, and `details` by number.
    """
    names = [experiment["overview"]["name"] for experiment in experiments]
    style, script = asset(STYLE), "\n".join(map(asset, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _filled(
        title=" · ".join(names),
        policy=f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        style=f"<style>{style}</style>",
        script=f"<script>{script}</script>",
        setup={"names": names, "experiments": experiments},
    )


def asset(name: str) -> str:
    """One of the files of the page."""
    return (resources.files("amltk.web") / "assets" / name).read_text(encoding="utf-8")


def _filled(*, title: str, policy: str, style: str, script: str, setup: dict[str, Any]) -> str:
    parts = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "script": script,
        "setup": _for_a_page(setup),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], asset("page.html"))


def _for_a_page(data: Any) -> str:
    """JSON in which nothing can end the element that contains it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _digest(text: str) -> str:
    """What identifies an element of the page in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
