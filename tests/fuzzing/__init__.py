"""Damaged, foreign and hostile files at every loader of the package, some thousand of them, the same ones each time.

    python -m tests.fuzzing                                       5 000 cases over all loaders
    python -m tests.fuzzing --cases 100000 --seed 7               more, and others
    python -m tests.fuzzing --loader images --seed 0 --case 17    one again, with its traceback; its files are kept

A *loader* is a module of ``loaders``: ``prepare`` makes originals, ``make`` damages one and says how to load it. Each
case runs in a worker process under limits (see ``guard``) and has to end in one of two ways: what is loaded is
plausible, and equal to the original where the format can know (see each loader); or one of the package's
named errors is raised and names the file. Anything else is a fault: another exception, a crash, too much time or
memory, a program started, a connection, a file written anywhere but in the case's own folder.
"""
