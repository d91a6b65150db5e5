"""What a teacher relies on: exercises of three degrees, mistakes, questions, times that add up, slides, a handout."""

from __future__ import annotations

import ast
import builtins
import inspect
import re

import make_slides
import nbformat
import pytest
from conftest import ROOT

from iood_helpers.bravo.histograms import ECE_BINS
from iood_helpers.course.runner import notebook_order
from iood_helpers.method.distances import Distances
from iood_helpers.method.kmeans import MIN_CALIBRATION, ClassKMeans
from iood_helpers.method.refinement import CalibratedRule, FusedRule, PublishedRule, SurplusRule

NAMES = notebook_order()
ALL = [*NAMES, "template"]
DEGREES = ("Print", "Change", "Build")
MINUTES = dict(zip(("Five", "Ten", "Fifteen", "Twenty", "Twenty-five"), (5, 10, 15, 20, 25), strict=True))
WITH_EXERCISES = dict(zip(("forty", "forty-five", "fifty", "fifty-five", "sixty"), (40, 45, 50, 55, 60), strict=True))
EXERCISES = 5 + 10 + 10
"""Minutes for the three of them."""
QUESTIONS = 10
"""Minutes for the common mistakes and the five questions."""
HALF_DAY = 240
"""Minutes of it."""


def cells(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells


def code_in(text):
    return re.findall(r"(?s)```python\n(.*?)```", text)


def exercises(name):
    """Degree and text of each exercise; a folded cell with a solution that runs is put as a code block."""
    parts = []
    for cell in cells(name):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif "hide-cell" in cell.metadata.get("tags", []):
            parts.append(f"```python\n{cell.source}\n```")
    _, _, section = "\n\n".join(parts).partition("## Exercises\n")
    pieces = re.split(r"(?m)^\*\*(Print|Change|Build)\.\*\* ", section.partition("\n## Common mistakes")[0])[1:]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.mark.parametrize("name", ALL)
def test_three_degrees_with_a_folded_solution_each(name):
    found = exercises(name)
    assert tuple(degree for degree, _ in found) == DEGREES
    for degree, text in found:
        question, *solutions = re.split(r"<details>\n<summary>[^<]+</summary>\n\n", text)
        assert len(solutions) == 1 and solutions[0].rstrip().endswith("\n\n</details>"), degree
        assert re.search(r"\w[.?!)]", question), degree
        words = re.sub(r"(?s)```.*?```|<[^>]*>", "", solutions[0]).split()
        assert len(words) >= 15, (degree, words)  # what one should have seen
        assert code_in(text), degree


@pytest.mark.parametrize("name", ALL)
def test_the_code_of_solutions_is_python(name):
    for degree, text in exercises(name):
        for code in code_in(text):
            compile(code, f"{name}, {degree}", "exec")
            assert max(map(len, code.splitlines())) <= 120
            assert len(code.splitlines()) <= 31, (name, degree)


def names(code):
    """Names that a piece of code reads, and those that it binds."""
    nodes = list(ast.walk(ast.parse(code)))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return read, bound | {alias.asname or alias.name.partition(".")[0] for alias in imported}


@pytest.mark.parametrize("name", NAMES)
def test_solutions_use_what_the_notebook_has(name):
    there = set(dir(builtins)).union(*(names(cell.source)[1] for cell in cells(name) if cell.cell_type == "code"))
    for degree, text in exercises(name):
        for code in code_in(text):
            read, bound = names(code)
            assert read <= there | bound, (degree, read - there - bound)


def after_the_exercises(name):
    """Text of the common mistakes, of the questions, and of their folded answers."""
    text = "\n\n".join(cell.source for cell in cells(name) if cell.cell_type == "markdown")
    section = text.partition("\n## Exercises\n")[2].partition("\n## Summary\n")[0]
    mistakes, _, rest = section.partition("\n## Common mistakes\n\n")[2].partition("\n## Questions\n\n")
    questions, _, folded = rest.partition("\n\n<details>\n<summary>Answers</summary>\n\n")
    answers, end, outside = folded.partition("\n\n</details>")
    assert end and not outside.strip()
    return mistakes, questions, answers


def numbered(text):
    """The entries of a numbered list, which has nothing beside them."""
    numbers, entries = zip(*re.findall(r"^(\d+)\. (.+)$", text, re.M), strict=True)
    assert len(entries) == len(text.strip().splitlines()) and list(map(int, numbers)) == [*range(1, len(entries) + 1)]
    return entries


@pytest.mark.parametrize("name", ALL)
def test_five_questions_with_folded_answers(name):
    _, questions, answers = after_the_exercises(name)
    assert len(numbered(questions)) == len(numbered(answers)) == 5
    assert all("?" in question or question.endswith("a reason.") for question in numbered(questions))
    assert all(answer.endswith(".") and len(answer.split()) >= 4 for answer in numbered(answers))


@pytest.mark.parametrize("name", ALL)
def test_common_mistakes(name):
    """Each in the words of a learner, then how it is noticed and what is right."""
    mistakes = after_the_exercises(name)[0].strip()
    found = re.findall(r'(?ms)^- \*\*"([^*]+)"\*\* (.+?)(?=\n- |\Z)', mistakes)
    assert 2 <= len(found) <= 4 and mistakes.count("\n- ") + 1 == len(found)
    for belief, truth in found:
        assert belief.endswith((".", "?")) and truth.endswith("."), belief
        assert len(truth.split()) >= 20, belief


def test_every_question_and_mistake_stands_once():
    """Each notebook has its own; the page for teachers repeats none."""
    parts = [after_the_exercises(name) for name in NAMES]
    questions = [question for _, text, _ in parts for question in numbered(text)]
    beliefs = [belief for mistakes, *_ in parts for belief in re.findall(r'^- \*\*"([^*]+)"', mistakes, re.M)]
    page = (ROOT / "book" / "teaching.md").read_text()
    for sentences in (questions, beliefs):
        assert len(set(sentences)) == len(sentences)
        assert not [sentence for sentence in sentences if sentence in page]


@pytest.mark.parametrize("name", NAMES)
def test_goals_can_be_tested(name):
    goals = cells(name)[0].source.partition("## Goals\n\n")[2].partition("## Prerequisites")[0]
    opening, *lines = goals.strip().split("\n- ")
    assert opening.strip() == "After this you can" and 2 <= len(lines) <= 4
    assert all(line[0].islower() and line.endswith(";" if line is not lines[-1] else ".") for line in lines)
    assert not {line.split()[0] for line in lines} & {"appreciate", "know", "learn", "look", "see", "understand"}


def stated(name):
    """Minutes at the head of a notebook: without and with exercises and questions."""
    head = cells(name)[0].source
    without, with_them = re.search(
        r"## Prerequisites\n\n([\w-]+) minutes to read and run, ([\w-]+) with exercises and questions\.", head
    ).groups()
    return MINUTES[without], WITH_EXERCISES[with_them]


def test_times_at_the_heads_are_those_for_teachers_and_add_up():
    page = (ROOT / "book" / "teaching.md").read_text()
    rows = re.findall(r"^\| \[.*\]\(notebooks/(\w+)\) \| (\d+) \| (\d+) \|$", page, re.M)
    assert [name for name, *_ in rows] == NAMES
    for name, *minutes in rows:
        assert stated(name) == tuple(map(int, minutes)), name
        assert int(minutes[1]) - int(minutes[0]) == EXERCISES + QUESTIONS
    total = re.search(r"^\| all \| (\d+) \| (\d+) \|$", page, re.M).groups()
    assert [int(minutes) for minutes in total] == [sum(int(row[i]) for row in rows) for i in (1, 2)]
    for plan in re.findall(r"(?ms)^\| (?:first|second) \|.*?(?=^\| second|\n\n)", page):
        assert minutes_of(plan) == 90
    half_day = page.partition("\n## Half a day\n")[2].partition("\n## ")[0]
    assert minutes_of(half_day) == HALF_DAY


def minutes_of(plan):
    """Sum of the minutes in a plan's table."""
    return sum(map(int, re.findall(r"^\| *\w* *\| (\d+) \|", plan, re.M)))


def test_slides_are_those_of_their_source_and_need_nothing_else():
    page = make_slides.make()
    assert (ROOT / "book" / "extra" / "slides.html").read_text() == page
    assert page.count("<section>") == 12
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"|url\(|@import|https?://(?!www\.w3\.org)', page)
    assert all(re.search(r'alt="[^"]{15,}"', image) for image in re.findall(r"<img[^>]*>", page))


def test_numbers_of_the_slides_are_those_of_the_readme():
    readme = re.sub(r" ± [\d.]+", "", (ROOT / "README.md").read_text())
    for row in re.findall(r"^\| (the network alone|published rule|calibrated rule).*?\| (.*) \|$", _slides(), re.M):
        assert re.search(rf"^\| {row[0]}[^|]*\| {re.escape(row[1])} \|", readme, re.M), row


def _slides():
    return (ROOT / "book" / "slides" / "slides.md").read_text()


def test_the_handout_has_the_numbers_of_the_code():
    page = (ROOT / "book" / "handout.md").read_text()
    calibrated, fused, published = CalibratedRule(), FusedRule(), PublishedRule()
    for words in (
        f"Calibrated, with $\\lambda = {calibrated.strength}$ and $w = {calibrated.width}$",
        f"$b = {fused.blend}$, $\\sigma = {fused.sigma}$ and $\\lambda = {fused.strength}$",
        f"Surplus, with $B = {SurplusRule().bound:g}$",
        f"quantile }} {calibrated.quantile} \\text{{ of }} r",
        f"G_{calibrated.smooth:g}",
        f"under $G_{inspect.signature(Distances.averaged).parameters['smooth'].default:g}$",
        f"$C < {published.confidence_threshold}$",
        f"> {published.factor}$ times",
        f"$C' = {published.replacement}$",
        f"fewer than {MIN_CALIBRATION} takes",
        f"tail probability below {calibrated.alpha}.",
        f"over {ECE_BINS} bins",
        f"{ClassKMeans().n_clusters} centres for each class",
    ):
        assert words in page, words
    assert fused.width == calibrated.width and fused.smooth == calibrated.smooth
