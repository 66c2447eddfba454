"""Names that people type: what is meant when one is unknown."""

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str:
    """' (did you mean ...?)' when something is near, else nothing."""
    found = difflib.get_close_matches(str(word), list(words), 1, 0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def check_known(word: str, words: Iterable[str], what: str) -> None:
    """Refuse a name that is not among the words."""
    words = list(words)
    if word not in words:
        raise ValueError(f"there is no {what} {word!r}{nearest(word, words)}; there are {', '.join(words)}")
