"""Light pages: each gets the scripts and styles that it needs, formulas as MathML, and a description.

Scripts that a page does not need are half a page's weight and delay what the reader came for. Formulas become MathML
while the book is built, which browsers draw by themselves, so no page carries a formula renderer.
"""

from __future__ import annotations

import html
import itertools
import os
import re
from pathlib import Path
from typing import Any

import tinycss2
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.config import Config

REPOSITORY, BRANCH = "IOOD_REPOSITORY", "IOOD_BRANCH"
"""Environment variables: where the published repository is, and which branch of it is the book's."""

NEEDED_WITH = {
    "copybutton": "highlight",
    "clipboard": "highlight",
    "toggle": "dropdown",
    "mystnb": 'class="cell',
    "figures.js": "iood-figure",
    "explorables.css": "iood-explorable",
}
"""Scripts and styles that matter only to pages in whose text a word occurs."""


def needed(asset: Any, body: str) -> bool:
    """Whether a page with this body needs a script or style."""
    name = str(getattr(asset, "filename", asset) or "").removeprefix("_static/")
    if "/" in name and not name.startswith(("scripts/", "styles/")):
        return False  # jupyter-book lists every script in _static; figures.js loads Plotly when a figure is in view
    inline = getattr(asset, "attributes", {}).get("body") or ""
    words = [word for part, word in NEEDED_WITH.items() if part in name or part in inline]
    return all(word in body for word in words)


def lighten(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Leave a page the scripts and styles that it needs, each once."""
    body = context.get("body", "")
    for kind in ("script_files", "css_files"):
        kept = {}
        for asset in context[kind]:
            if needed(asset, body):
                inline = getattr(asset, "attributes", {}).get("body")
                kept.setdefault((str(getattr(asset, "filename", asset)), inline), asset)
        context[kind] = list(kept.values())


def touch(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Give figures to touch their scripts, and put their data into files, which load when one scrolls to them."""
    body = context.get("body", "")
    names = dict.fromkeys(re.findall(r'data-explorable="(\w+)"', body))
    if not names:
        return
    counter = itertools.count(1)

    def keep(found: re.Match) -> str:
        source = f"{pagename.rpartition('/')[2]}-{next(counter)}"
        folder = Path(app.outdir) / "explorables"
        folder.mkdir(exist_ok=True)
        (folder / f"{source}.js").write_text(f'ioodExplorables.receive("{source}", {found["data"]});\n')
        return f'{found["start"]} data-source="{source}">{found["text"]}'

    data = r'<script type="application/json">(?P<data>[^<]*)</script>'
    body = re.sub(rf'(?P<start><div class="iood-explorable"[^>]*)>(?P<text><p>[^<]*</p>){data}', keep, body)
    address = context["pathto"]
    scripts = (f'<script defer src="{address(f"explorables/{name}.js", 1)}"></script>' for name in ("core", *names))
    context["body"] = body + "".join(scripts)


def describe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Describe the page to search engines by its first paragraph."""
    paragraph = doctree and next(doctree.findall(lambda node: type(node) is nodes.paragraph), None)
    text = " ".join(paragraph.astext().split()) if paragraph else ""
    text = text or f"{context.get('title', '')}: {app.config.html_title}"
    if len(text) > 160:
        text = text[:157].rsplit(" ", 1)[0] + " …"
    context["metatags"] = context.get("metatags", "") + f'<meta name="description" content="{html.escape(text)}">\n'


def link_repository(app: Sphinx, config: Config) -> None:
    """Links to the repository, Binder and Colab, if the builder names the repository; no address is invented."""
    address = os.environ.get(REPOSITORY, "").rstrip("/")
    if not address:
        return
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"{REPOSITORY} is {address!r}; it must read https://HOST/OWNER/NAME.")
    launch = {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}
    if address.startswith("https://github.com/"):
        launch["colab_url"] = "https://colab.research.google.com"
    config.html_theme_options |= {
        "repository_url": address,
        "repository_branch": os.environ.get(BRANCH, "main"),
        "path_to_docs": "",  # the notebooks lie in notebooks/, in the book as in the repository
        "use_repository_button": True,
        "launch_buttons": launch,
    }


def used_names(folder: Path) -> set[str]:
    """Classes that a page has or that a script may set."""
    names = set()
    for page in folder.rglob("*.html"):
        for classes in re.findall(r'class="([^"]*)"', page.read_text()):
            names.update(classes.split())
    for script in (*folder.glob("_static/**/*.js"), *folder.glob("explorables/*.js")):
        if script.name != "fontawesome.js" and "plotly" not in script.name:  # neither is for the theme's styles
            names.update(re.findall(r"[\w-]+", script.read_text()))
    return names


def used_rules(sheet: str, names: set[str]) -> str:
    """The rules of a style sheet that can apply where only these classes occur."""
    rules = tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True)
    return "".join(_rule(rule, names) for rule in rules)


def _rule(rule: Any, names: set[str]) -> str:
    if rule.type == "qualified-rule":
        selectors = ",".join(s for s in _selectors(rule.prelude) if _applies(s, names))
        return f"{selectors}{{{tinycss2.serialize(rule.content)}}}" if selectors else ""
    if rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
        inner = used_rules(tinycss2.serialize(rule.content), names)
        return f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}" if inner else ""
    return rule.serialize()


def _selectors(prelude: list) -> list[str]:
    ends = [i for i, token in enumerate(prelude) if token == ","]
    parts = [prelude[a + 1 : b] for a, b in itertools.pairwise([-1, *ends, len(prelude)])]
    return [tinycss2.serialize(part).strip() for part in parts]


def _applies(selector: str, names: set[str]) -> bool:
    tokens = tinycss2.parse_component_value_list(selector)  # what stands in :not() is one token
    classes = [name.value for dot, name in itertools.pairwise(tokens) if dot == "." and name.type == "ident"]
    return all(name in names or name.startswith("bs-") for name in classes)  # Bootstrap composes bs-tooltip-top, ...


def shrink_styles(app: Sphinx, error: Exception | None) -> None:
    """Take out of the style sheets, the heaviest files of most pages, what no page and no script uses."""
    if error or app.builder.name != "html":
        return
    static = Path(app.outdir) / "_static"
    names = used_names(Path(app.outdir))
    for sheet in (*static.glob("*.css"), *static.glob("styles/*.css")):
        sheet.write_text(used_rules(sheet.read_text(), names))


def visit_math(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(translator: Any, node: nodes.math_block) -> None:
    """A formula in a line of its own; wide ones scroll in their box."""
    translator.body.append(f'<div class="math" tabindex="0">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Connect all of it."""
    app.add_config_value("comments_config", {}, "html")  # jupyter-book sets it; the extension it is for is not loaded
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.connect("config-inited", link_repository)
    app.connect("html-page-context", touch, priority=800)
    app.connect("html-page-context", lighten, priority=900)
    app.connect("html-page-context", describe, priority=900)
    app.connect("build-finished", shrink_styles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
