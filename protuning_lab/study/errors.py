"""What is wrong with a study, in words for the person who wrote it."""

import difflib
from collections.abc import Iterable


class StudyError(ValueError):
    """A study's file, its configs, its work dir or its results do not fit."""


def meant(word: object, known: Iterable[object]) -> str:
    """``'; did you mean …?'`` where one of the known words is near, and nothing where none is."""
    near = difflib.get_close_matches(str(word), [str(each) for each in known], n=1)
    return f'; did you mean {near[0]!r}?' if near else ''
