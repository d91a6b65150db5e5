"""axe-core, which finds what assistive software cannot use on a page.

Its file comes from a package that is installed for this alone, without the browser driver that it was made for.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = "axe_playwright_python"


def find():
    """Path of ``axe.min.js``, or None where the package is missing."""
    package = importlib.util.find_spec(PACKAGE)
    return Path(package.origin).with_name("axe.min.js") if package else None


def findings(tab, *, contrast=True):
    """Serious and critical findings on the page of a tab, against the WCAG up to 2.2, levels A and AA.

    And, though it is no more than good practice, what stands outside of all landmarks.
    """
    options = (
        "{preload: false, resultTypes: ['violations'],"
        " runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'],"
        f" rules: {{region: {{enabled: true}}, 'color-contrast': {{enabled: {str(contrast).lower()}}}}}}}"
    )
    if not tab.run("'axe' in window"):
        tab.run(f"{find().read_text()}\n;0")
    return tab.run(
        f"axe.run(document, {options}).then(({{violations}}) => violations"
        ".filter(({id, impact}) => id === 'region' || ['serious', 'critical'].includes(impact))"
        ".flatMap(({id, nodes}) => nodes.map(({target, html}) => `${id}: ${target} ${html.slice(0, 120)}`)))"
    )
