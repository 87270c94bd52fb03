"""Faults of SQL: words and signs are changed, conditions dropped; Jinja and comments stay."""

import re
from collections.abc import Iterator

from tests.mutants.fault import Fault

TOKEN = re.compile(
    r"(?P<other>--[^\n]*|/\*.*?\*/|\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|'(?:[^']|'')*'|\"[^\"]*\"|:=|=>"
    r"|->>?|::\w+)"
    r"|(?P<limit><=|>=|<>|!=|=|<|>)"
    r"|(?P<condition_line>(?<=\n)[ ]*(?:and|or)\b[^\n]*(?=\n))"
    r"|(?P<number>\b\d+(?:\.\d+)?\b)"
    r"|(?P<word>\b(?:left join|inner join|[a-z_]\w*)\b)"
    r"|(?P<arithmetic>(?<!select) [-+*/] )",
    re.DOTALL | re.IGNORECASE,
)
LIMITS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "=": "<>", "<>": "=", "!=": "="}
WORDS = {
    "condition": {"and": "or", "or": "and"},
    "negation": {"not": ""},
    "truth": {"true": "false", "false": "true"},
    "join": {"left join": "inner join", "inner join": "left join"},
    "distinct": {"distinct": ""},
    "order": {"desc": "asc", "asc": "desc"},
    "swap": {"min": "max", "max": "min", "bool_and": "bool_or", "bool_or": "bool_and"}
    | {"first": "last", "last": "first", "greatest": "least", "least": "greatest"}
    | {"arg_min": "arg_max", "arg_max": "arg_min"},
}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*"}


def rewritten(token: re.Match[str]) -> Iterator[tuple[str, str]]:
    """Kinds of faults of a token with what would stand there."""
    text, kind = token.group(), token.lastgroup
    if kind == "limit":
        yield "limit", LIMITS[text]
    elif kind == "arithmetic":
        yield "arithmetic", f" {ARITHMETIC[text.strip()]} "
    elif kind == "number" and "." in text:
        yield from (("number", f"{float(text) * share:.6g}") for share in (1.1, 0.9))
    elif kind == "number":
        yield from (("number", str(max(int(text) + step, 0))) for step in (1, -1))
    elif kind == "word":
        for name, words in WORDS.items():
            if text.lower() in words:
                yield name, words[text.lower()]


def faults(path: str, code: str) -> list[Fault]:
    """All faults that this file can have, in the order of their places."""
    possible: list[Fault] = []

    def add(kind: str, start: int, end: int, text: str) -> None:
        line = code.count("\n", 0, start) + 1
        changed = code[:start] + text + code[end:]
        if changed != code:
            place = (line, line, len(possible))
            possible.append(Fault(path, kind, place, code, lambda: changed))

    place, is_between = 0, False
    while token := TOKEN.search(code, place):
        place = token.end()
        if token.lastgroup == "condition_line":
            if is_balanced(token.group()) and "{%" not in token.group():
                add("half", token.start(), token.end(), "")
            # The tokens of this line come next.
            word = token.group().split()[0]
            place = token.start() + token.group().index(word) + len(word)
            add("condition", place - len(word), place, WORDS["condition"][word])
            continue
        if is_between and token.group().lower() == "and":
            is_between = False
            continue
        is_between |= token.group().lower() == "between"
        for kind, text in rewritten(token):
            add(kind, token.start(), token.end(), text)
    return possible


def is_balanced(line: str) -> bool:
    """Whether each bracket that the line opens is closed in it."""
    return line.count("(") == line.count(")") and line.count("[") == line.count("]")
