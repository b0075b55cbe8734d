"""What counts as a person's name, whichever way it comes in."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 200  # characters

# They turn the text around a name, in a list or a mail. What scripts need within words (ZWJ, ZWNJ, marks) may stay.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class NameInvalidError(ValueError):
    """Not a name; the text says why, and `code` in a word."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def check_name(text: str) -> str:
    """Return a name without the spaces around it.

    Raises:
        NameInvalidError: It is empty, too long, or has control characters.
    """
    if len(text) > MAX_LENGTH:
        raise NameInvalidError("too_long", f"A name has at most {MAX_LENGTH} characters.")
    return check_line(text)


def check_line(text: str) -> str:
    """Return one line of plain text, such as what is searched for, without the spaces around it.

    Raises:
        NameInvalidError: It is empty, or has control characters.
    """
    if any(char in _BIDI_CONTROLS or unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise NameInvalidError("invalid_characters", "A name has no control characters.")
    if not any(unicodedata.category(char)[0] in "LNPS" for char in text):
        raise NameInvalidError("too_short", "A name has at least one character that can be seen.")
    return text.strip()
