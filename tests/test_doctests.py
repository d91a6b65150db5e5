"""The examples in docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib

from test_rooms import ALIASES, MODULES, PACKAGE


def test_examples_in_docstrings():
    tried = 0
    for path in MODULES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] in ALIASES:
            continue
        name = ".".join(parts).removesuffix(".__init__")
        result = doctest.testmod(importlib.import_module(name))
        assert not result.failed, name
        tried += result.attempted
    assert tried >= 9  # they have been found
