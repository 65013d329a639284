"""What ends a command in one plain line: every other exception is a fault of ours."""


class UserError(Exception):
    """A user error: bad input or settings. Shown as one line, without a traceback; exit code 2."""

    exit_code = 2


class Failed(UserError):
    """Work that failed although the input was good (disk full, training diverged); exit code 1."""

    exit_code = 1


def one_line(text, limit=300):
    """Text on one line of at most `limit` characters, safe to print whatever it holds.

    File names and libraries' messages can hold newlines, control characters and bytes that are no
    UTF-8 (as surrogates); those are shown escaped.
    """
    text = " ".join(str(text).split())
    text = "".join(letter if letter.isprintable() else
                   letter.encode("unicode_escape", "backslashreplace").decode() for letter in text)
    return text if len(text) <= limit else text[:limit - 3] + "..."


def first_few(items, show=str, between="; ", most=3):
    """The first of several items as text: a; b; c; ...

    Args:
        items: a list, or any other sequence.
        show: function that makes one of them a text.
    """
    return between.join(map(show, items[:most])) + f"{between}..." * (len(items) > most)
