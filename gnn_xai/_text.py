"""Text from users' data, names and files, made harmless where it is shown."""

from __future__ import annotations

JOINERS = "\u200c\u200d"  # of letters, in several scripts


def printable(text: object, kept: str = "\n") -> str:
    r"""Text without control characters: escape codes, bells, half surrogates and the like are written out.

    Args:
        text: anything with a `str`.
        kept: characters that stay although they are not printable.

    >>> printable("\x1b[31mred\ud800"), printable("naïve café")
    ('\\x1b[31mred\\ud800', 'naïve café')
    """
    return "".join(
        letter if letter.isprintable() or letter in kept or letter in JOINERS else _escaped(letter)
        for letter in str(text)
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
