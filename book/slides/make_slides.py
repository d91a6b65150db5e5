"""Make ``book/extra/slides.html`` from ``slides.md``: one file that needs no network, moved by keys or a click.

python book/slides/make_slides.py [--out FILE]

Slides are parted by lines of three dashes. Pictures go into the file, formulas become MathML, and a quotation is a note
for the teacher, which the key N shows.
"""

from __future__ import annotations

import argparse
import base64
import re
from pathlib import Path

from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt

from iood_helpers.io import write_atomically

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "extra" / "slides.html"
KINDS = {".webp": "image/webp", ".jpg": "image/jpeg", ".png": "image/png"}


def with_formulas(text: str) -> str:
    """The text with MathML in place of ``$$...$$`` and ``$...$``."""
    text = re.sub(r"(?s)\$\$(.+?)\$\$", lambda found: tex2mathml(found[1].strip(), as_block=True), text)
    text = re.sub(r"\$(.+?)\$", lambda found: tex2mathml(found[1]), text)
    return re.sub(r"(?s)<math.*?</math>", lambda found: re.sub(r"\s*\n\s*", "", found[0]), text)


def with_pictures(page: str) -> str:
    """The page with every picture in it, not beside it."""

    def inside(found: re.Match) -> str:
        path = HERE / found[1]
        return f'src="data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"'

    return re.sub(r'src="([^":]+)"', inside, page)


def make() -> str:
    """The whole file."""
    source = (HERE / "slides.md").read_text(encoding="utf-8")
    slides = re.split(r"(?m)^---\n", source)
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    sections = [f"<section>\n{markdown.render(with_formulas(slide))}</section>\n" for slide in slides]
    template = (HERE / "template.html").read_text(encoding="utf-8")
    return with_pictures(template.replace("SLIDES", "".join(sections)))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    write_atomically(out, lambda temporary: temporary.write_text(make(), encoding="utf-8"))
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
