"""Pages that assistive software reads right: what Sphinx and MyST-NB write otherwise, mended in a page's body.

The tests of the book ask axe-core what is left.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

PARAMETERS = re.compile(r'<dl>\s*((?:<dd>(?:(?!</?d[ld]>).)*</dd>\s*)+)</dl>(?=\s*<span class="sig-paren">)', re.DOTALL)
"""The parameters of a signature, a line each: a list of definitions in which nothing is defined."""


def mended(body: str) -> str:
    """The body of a page in markup that means what is shown."""
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")  # its text says what it opens
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')  # they stand in an element of the role list
    return PARAMETERS.sub(_lines, body)


def _lines(found: re.Match) -> str:
    lines = found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">{lines}</span>'


def mend(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Mend a page before it is written."""
    if "body" in context:
        context["body"] = mended(context["body"])


def setup(app: Sphinx) -> dict:
    """Connect it."""
    app.connect("html-page-context", mend, priority=800)  # before the scripts are chosen by what the body holds
    return {"parallel_read_safe": True, "parallel_write_safe": True}
