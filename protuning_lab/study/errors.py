"""The error of a study, and the suggestion for a misspelt name."""

import difflib
from collections.abc import Iterable


class StudyError(ValueError):
    """A study's file, its configs, its work dir or its results are invalid."""


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Return ``'; did you mean …?'`` if a known word is similar, otherwise an empty string."""
    near = difflib.get_close_matches(str(word), [str(each) for each in known], n=1)
    return f'; did you mean {near[0]!r}?' if near else ''
