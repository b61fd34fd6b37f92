"""Texts of strangers, shown to people who decide by them."""


def visible(text: str) -> str:
    r"""Return a text whose every character shows, the others as `\u{202e}`: nothing may hide, or turn the line around.

    Line feeds stay.
    """
    return "".join(each if each.isprintable() or each == "\n" else f"\\u{{{ord(each):04x}}}" for each in text)
