"""The text of an HTML page, in a process of its own: `python extracting.py`, HTML on stdin, JSON on stdout.

Run as a file, not imported: pages are written by anybody, and the parser takes quadratic time for tags nested in tags
without end. Here it can be stopped, and neither its memory nor a crash is the worker's.
"""

import json
import sys

CPU_S = 5
MEMORY_BYTES = 1024 * 1024 * 1024
TITLE_CHARS = 300
MATCHES = 500
NOT_TEXT = ["script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas", "head"]
BLOCKS = [
    *("p", "div", "section", "article", "header", "footer", "main", "nav", "aside", "ul", "ol", "li", "table", "tr"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "br", "hr", "blockquote", "pre", "dt", "dd", "form", "figcaption", "option"),
]
CELLS = ["td", "th"]


def extract(html: str, selector: str | None) -> dict[str, object]:
    """Return title and text of the page, or of the parts of it that `selector` (CSS) finds."""
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    tree = LexborHTMLParser(html)
    title = tree.css_first("title")
    found: dict[str, object] = {"title": _line(title.text() if title is not None else "")[:TITLE_CHARS]}
    tree.strip_tags(NOT_TEXT)
    for tags, mark in ((BLOCKS, "\n"), (CELLS, "\t")):
        for node in tree.css(", ".join(tags)):
            node.insert_before(mark)
            node.insert_after(mark)
    root = tree.body or tree.root
    if selector is None:
        return {**found, "text": _lines(root.text() if root is not None else "")}
    try:
        nodes = tree.css(selector)
    except (SelectolaxError, ValueError):
        return {"problem": "selector"}
    return {**found, "matches": len(nodes), "text": "\n\n".join(_lines(node.text()) for node in nodes[:MATCHES])}


def _line(text: str) -> str:
    return " ".join(text.split())


def _lines(text: str) -> str:
    lines = (_line(line) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _bound() -> None:
    try:
        import resource
    except ImportError:  # not on Windows: there the caller's clock alone bounds it
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


if __name__ == "__main__":
    _bound()
    asked = json.loads(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(extract(asked["html"], asked["selector"])))
