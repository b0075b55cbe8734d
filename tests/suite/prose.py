"""Hold prose against a list of words: `python -m tests.suite.prose`, a part of `make lint`.

It reads docstrings and comments of the program, its documents, and the English texts of pages and emails. Code, names
in backticks and literal blocks are left alone.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

WORDS = {
    r"who(m)?ever|nobody|no one|somebody|someone|whom|everybody|everyone|anybody|anyone": "name the actor: user, "
    "client, administrator, operator, worker",
    r"e-mails?": "email",
    r"log-ins?|log-outs?|log-in's": "login, logout (nouns); log in, log out (verbs)",
    r"sign-up's": "of the sign-up",
    r"call(s|ed)? off": "cancel",
    r"deeds?": "action",
    r"amongst|whilst|hitherto|anew": "a plain word",
}
OPENINGS = r"(Say|Tell|See|Have|Know|Speak|Do what)\b"
"""How no docstring of a function begins: with a verb of the field instead (`Return whether …`)."""

# What only people read has no "mail" that can be counted.
COUNTED = r"(a|one|this|that|the|your|our|another|each|every|no) mail(?! (servers?|program))|mails"
READ_BY_PEOPLE = r"README\.md|regsvc/http/pages/texts/(\w+/)?en\.toml|regsvc/mail/message/templates/en\.toml"

_CODE = re.compile(r"```.*?```|``.*?``|`[^`]*`|\{[^}]*\}|https?://\S+|<[^>]+>", re.DOTALL)


def blank(text: str) -> str:
    """Return a text with its code blanked out, on as many lines."""
    return _CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def read_python(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each docstring and comment of a module with the line it begins on."""
    source = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield node.body[0].lineno, text


def read_openings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line of each function's docstring."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text.partition("\n")[0]


def find_words(number: int, text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield what stands in a text and should not, by line."""
    for offset, line in enumerate(blank(text).splitlines()):
        for pattern, better in words.items():
            for found in re.finditer(rf"(?<![\w-])({pattern})(?![\w-])", line, re.IGNORECASE):
                yield number + offset, f"“{found[0]}”: {better}"


def check(path: Path) -> list[str]:
    """Return a line for each word that should not stand in a file."""
    name = path.relative_to(ROOT).as_posix()
    words = WORDS | ({COUNTED: "email, message"} if re.fullmatch(READ_BY_PEOPLE, name) else {})
    found: list[tuple[int, str]] = []
    if path.suffix == ".py":
        for number, text in read_python(path):
            found += find_words(number, text, words)
        for number, text in read_openings(path):
            if opening := re.match(OPENINGS, text):
                found.append(
                    (number, f"“{opening[0]} …” opens a docstring: begin with a verb, such as Return")
                )
    else:
        found += find_words(1, path.read_text("utf-8"), words)
    return [f"{name}:{number}: {said}" for number, said in sorted(found)]


def list_files() -> list[Path]:
    """Return the files whose prose is checked."""
    return [
        *sorted((ROOT / "regsvc").rglob("*.py")),
        *sorted((ROOT / "docs").glob("*.md")),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "regsvc/http/pages/texts").rglob("en.toml")),
        ROOT / "regsvc/mail/message/templates/en.toml",
        *sorted((ROOT / "regsvc/http/pages/templates").rglob("*.html")),
    ]


def main() -> None:
    """Print what is found and end with 1 if there is anything."""
    lines = [line for path in list_files() for line in check(path)]
    sys.stdout.write("\n".join(lines or ["prose ok"]) + "\n")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
