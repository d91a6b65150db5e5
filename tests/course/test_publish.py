"""The book is fit to be published below any folder of any host; what is wrong with one is named."""

from __future__ import annotations

import tarfile

import publish
import pytest

PAGES = {
    "index.html": '<a href="notebooks/one.html#start">1</a> <a href="https://elsewhere.org/">far</a>',
    "notebooks/one.html": '<link rel="stylesheet" href="../_static/a.css?v=1"><p id="start"><a href="../">up</a>',
    "_static/a.css": "p { background: url(picture.svg) }",
    "_static/picture.svg": "<svg/>",
}


def written(folder, **changed):
    for name, text in (PAGES | changed).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def found(folder):
    return [finding for finding in publish.findings(folder) if finding]


def test_nothing_is_wrong_with_a_sound_book(tmp_path):
    assert not found(written(tmp_path))


@pytest.mark.parametrize(
    "page, finding",
    [
        ('<a href="two.html">2</a>', "names two.html, which does not exist"),
        ('<a href="notebooks/One.html">1</a>', "names notebooks/One.html, which does not exist"),
        ('<a href="notebooks/one.html#end">1</a>', "no such place"),
        ('<a href="/notebooks/one.html">1</a>', "links to /notebooks/one.html, which is not below"),
        ('<a href="../other/">1</a>', "links to ../other/, which is not below"),
        ('<script src="https://elsewhere.org/a.js"></script>', "loads https://elsewhere.org/a.js"),
        ('<link rel="preload" href="//elsewhere.org/a.css">', "loads //elsewhere.org/a.css"),
        ('<img srcset="_static/picture.svg 1x, https://elsewhere.org/b.png 2x">', "loads https://elsewhere.org/b.png"),
        ("<p style=\"background: url('absent.png')\">", "names absent.png, which does not exist"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, page, finding):
    (problem,) = found(written(tmp_path, **{"index.html": page}))
    assert problem.startswith("index.html ") and finding in problem


def test_styles_load_nothing_from_elsewhere(tmp_path):
    sheet = "@import 'https://elsewhere.org/font.css'; p { background: url(none.png) }"
    assert len(found(written(tmp_path, **{"_static/a.css": sheet}))) == 2


def test_the_archive_holds_the_book(tmp_path):
    folder, artifact = written(tmp_path / "html"), tmp_path / "artifact.tar"
    assert publish.main(["--html", str(folder), "--artifact", str(artifact)]) == 0
    with tarfile.open(artifact) as archive:
        assert {member.name.removeprefix("./") for member in archive if member.isfile()} == set(PAGES)


def test_no_archive_is_made_of_what_is_wrong(tmp_path, capsys):
    folder, artifact = written(tmp_path / "html", **{"index.html": '<a href="two.html">2</a>'}), tmp_path / "a.tar"
    assert publish.main(["--html", str(folder), "--artifact", str(artifact)]) == 1
    assert not artifact.exists() and "which does not exist" in capsys.readouterr().err
    assert publish.main(["--html", str(tmp_path / "none")]) == 1
    assert "make book" in capsys.readouterr().err


@pytest.mark.slow
def test_the_book_can_be_published(book, tmp_path):
    assert not found(book)
