"""Faults of Python code: cosmic-ray's operators, as far as they are realistic, and a few more."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso import parse

from tests.mutants.fault import Fault

# A node of parso's tree; parso's own types name neither its children nor its value.
Node = Any
Position = tuple[tuple[int, int], tuple[int, int]]
KINDS = {
    "limit": "Lt_LtE LtE_Lt Gt_GtE GtE_Gt Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is",
    "arithmetic": "Add_Sub Sub_Add Mul_Div Div_Mul Mod_FloorDiv FloorDiv_Mod BitAnd_BitOr "
    "BitOr_BitAnd",
    "negation": "Delete_Not Delete_USub Delete_Invert",
    "condition": "ReplaceAndWithOr ReplaceOrWithAnd",
    "truth": "ReplaceTrueWithFalse ReplaceFalseWithTrue",
    "loop": "ReplaceBreakWithContinue ReplaceContinueWithBreak",
}
PREFIXES = {
    "limit": "ReplaceComparisonOperator_",
    "arithmetic": "ReplaceBinaryOperator_",
    "negation": "ReplaceUnaryOperator_",
}
OPERATIONS = {"arith_expr", "term", "expr", "and_expr"}
OPPOSITES = (
    "min max, any all, first last, head tail, floor ceil, minimum maximum, argmin argmax, "
    "min_horizontal max_horizontal, any_horizontal all_horizontal, startswith endswith, "
    "starts_with ends_with, match search, cum_max cum_min"
)
SWAPPED_CALLS = {
    before: after
    for pair in OPPOSITES.split(", ")
    for before, after in (pair.split(), reversed(pair.split()))
} | {"fullmatch": "match"}
SWAPPED_TEXTS = {"left": "inner", "inner": "left", "first": "last", "last": "first"}
DROPPED_CALLS = re.compile(
    "abs|clip|fill_null|fill_nan|drop_nulls|unique|filter|strip|lower|casefold|sort"
)
KEYED_CALLS = re.compile("sort|sort_by|sorted|lexsort|group_by|over|unique")
# What follows changes no result: settings of classes and messages, and how fast or careful it is.
IDLE_ARGUMENTS = re.compile(
    "strict|frozen|slots|kw_only|repr|compare|description|title|help|exist_ok|parents|stacklevel"
    "|ensure_ascii|validate_default|maxsize"
)
WITH_SETTINGS = {"argument", "atom_expr", "expr_stmt", "if_stmt"}
IDLE_NAMES = re.compile(r"TOLERANCE|EPSILON|CHUNK|BLOCK|BATCH|ITERATIONS|BUFFER|BYTES|__all__")
TYPE = re.compile(r"None|\"?[A-Z]\w*[a-z]\w*(\[.*\])?\"?|(int|str|float|bool|bytes|list|dict)\b.*")


class Rewriting(Operator):  # type: ignore[misc]
    """An operator that gives the texts which could stand for a node."""

    def __init__(self, rewritten: Callable[[Node], Iterator[str]]) -> None:
        self.rewritten = rewritten

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        for _ in self.rewritten(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        text = list(self.rewritten(node))[index].strip()
        return parse(node.get_first_leaf().prefix + text)  # type: ignore[no-untyped-call]

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def numbers(node: Node) -> Iterator[str]:
    """One more and one less; of a fraction, a tenth more and less. Tolerances stay."""
    if node.type != "number" or not isinstance(value := ast.literal_eval(node.value), int | float):
        return
    if isinstance(value, int):
        yield from (str(value + 1), str(value - 1))
    elif value > 1e-4:
        yield from (str(round(value * 1.1, 12)), str(round(value * 0.9, 12)))


def halves(node: Node) -> Iterator[str]:
    """A condition without one of its parts; a choice of two values that takes always the same."""
    if node.type in ("and_test", "or_test", "and_expr"):
        kept = node.children[::2]
        for left_out in range(len(kept)):
            parts = [part.get_code() for place, part in enumerate(kept) if place != left_out]
            yield f" {node.children[1].value} ".join(part.strip() for part in parts)
    elif node.type == "test":
        yield node.children[0].get_code()
        yield node.children[4].get_code()


def branches(node: Node) -> Iterator[str]:
    """An `if` whose branch is never taken."""
    if node.parent is not None and node.parent.type == "if_stmt":
        before = node.get_previous_leaf()
        if before is not None and before.value in ("if", "elif") and node in node.parent.children:
            yield "False"


def swaps(node: Node) -> Iterator[str]:
    """The opposite function or word: `min` for `max`, the last one for the first, `in` too."""
    if node.type == "name" and (following := node.get_next_leaf()) and following.value == "(":
        if node.value in SWAPPED_CALLS and node.parent.type != "funcdef":
            yield SWAPPED_CALLS[node.value]
    elif node.type == "string" and node.value[1:-1] in SWAPPED_TEXTS:
        if node.parent.type == "argument" and node.parent.children[0].value in ("how", "keep"):
            yield node.value[0] + SWAPPED_TEXTS[node.value[1:-1]] + node.value[0]
    elif node.type == "comparison" and len(node.children) == 3:
        left, operator, right = (child.get_code().strip() for child in node.children)
        if operator in ("in", "not in"):
            yield f"{left} {'not in' if operator == 'in' else 'in'} {right}"
    elif node.type == "operator" and node.value in ("+=", "-=", "&=", "|="):
        yield {"+=": "-=", "-=": "+=", "&=": "|=", "|=": "&="}[node.value]


def called(node: Node) -> list[str]:
    """Texts of the arguments of a call's brackets."""
    inner = node.children[1:-1]
    if inner and inner[0].type == "arglist":
        inner = [child for child in inner[0].children if child.type != "operator"]
    return [child.get_code().strip() for child in inner]


def dropped_calls(node: Node) -> Iterator[str]:
    """`x.clip(0)` becomes `x`; `max(x, 0)` and `sorted(x)` become one of what is in brackets."""
    if node.type not in ("atom_expr", "power"):
        return
    parts = [child.get_code() for child in node.children]
    for place, child in enumerate(node.children[1:-1], 1):
        name = parts[place].strip().removeprefix(".").strip()
        if child.type == "trailer" and DROPPED_CALLS.fullmatch(name) and parts[place + 1][0] == "(":
            yield "".join(parts[:place] + parts[place + 2 :])
    if parts[0].strip() in ("max", "min", "sorted", "abs") and parts[1][0] == "(":
        for argument in called(node.children[1])[:2]:
            if not re.match(r"\*|\w+\s*=[^=]", argument) and " for " not in argument:
                yield "".join([f"({argument})", *parts[2:]])


def dropped_keys(node: Node) -> Iterator[str]:
    """Keys of an order or a group without one of them; of an order, also exchanged."""
    if node.type == "trailer" and node.children[0].value == "(" and len(node.children) == 3:
        name = node.get_previous_leaf()
        if name is None or not KEYED_CALLS.fullmatch(name.value):
            return
        arguments = called(node)
        keys = [each for each in arguments if re.match(r"[\"']", each)]
        rest = ", ".join(["", *arguments[len(keys) :]])
        for kept in other_keys(keys, is_order="sort" in name.value):
            yield f"({', '.join(kept)}{rest})"
    elif node.type == "testlist_comp" and node.children[1].type == "operator":
        pattern = rf"({KEYED_CALLS.pattern})\($|key=lambda.*:\s*$"
        if before := re.search(pattern, text_before(node)):
            keys = [child.get_code().strip() for child in node.children[::2]]
            lists = list(other_keys(keys, is_order=not re.match("group|over|uniq", before[0])))
            # Where each key has its own direction, one key less would only be an error.
            is_directed = "descending=[" in node.parent.parent.get_code()
            for kept in lists[-1:] if is_directed else lists:
                yield ", ".join(kept) + ","


def text_before(node: Node) -> str:
    """Code of a few leaves before the brackets around a node."""
    leaves: list[str] = []
    leaf = node.parent.get_previous_leaf()
    while leaf is not None and len(leaves) < 6:
        leaves.insert(0, leaf.get_code())
        leaf = leaf.get_previous_leaf()
    return "".join(leaves)


def other_keys(keys: list[str], *, is_order: bool) -> Iterator[list[str]]:
    """Lists with one key left out each; of an order, also that whose first two are exchanged."""
    if len(keys) > 1:
        for place in range(len(keys)):
            yield keys[:place] + keys[place + 1 :]
        if is_order:
            yield [keys[1], keys[0], *keys[2:]]


def operators() -> list[tuple[str, Any]]:
    """Kinds of faults with an operator each."""
    provider = OperatorProvider()
    borrowed = [
        (kind, provider[PREFIXES.get(kind, "") + name]())
        for kind, names in KINDS.items()
        for name in names.split()
    ]
    own = {"number": numbers, "half": halves, "branch": branches, "swap": swaps}
    own |= {"call": dropped_calls, "key": dropped_keys}
    return [*borrowed, *((kind, Rewriting(rewritten)) for kind, rewritten in own.items())]


def is_idle(node: Node, kind: str) -> bool:
    """Whether a fault of this node would change no result: types, messages, classes' settings."""
    if kind == "arithmetic":
        beside = [child.get_code().strip() for child in node.parent.children[::2]]
        if node.parent.type not in OPERATIONS or any(TYPE.fullmatch(each) for each in beside):
            return True
        if any(re.match(r"[rbf]*[\"'\[]", each) for each in beside):
            return True
    child, parent = node, node.parent
    while parent is not None:
        if parent.type in ("raise_stmt", "decorator", "import_from", "import_name", "global_stmt"):
            return True
        code = parent.get_code().strip() if parent.type in WITH_SETTINGS else ""
        if (
            (parent.type == "annassign" and parent.children[1] is child)
            or parent.type == "tfpdef"
            or (parent.type == "funcdef" and child is parent.annotation)
            or (parent.type == "argument" and IDLE_ARGUMENTS.fullmatch(code.split("=")[0].strip()))
            or (parent.type == "atom_expr" and re.match(r"(\w+\.)?(log|logger|warnings)\.", code))
            or (parent.type == "expr_stmt" and IDLE_NAMES.search(code.split("=")[0]))
            or (parent.type == "if_stmt" and code.startswith("if TYPE_CHECKING"))
        ):
            return True
        child, parent = parent, parent.parent
    return False


def faults(path: str, code: str) -> list[Fault]:
    """All faults that this file can have, in the order of kinds and places."""
    possible = []
    nodes = list(ast_nodes(get_ast(code)))
    for kind, operator in operators():
        occurrence = 0
        for node in nodes:
            for start, end in operator.mutation_positions(node):
                if not is_idle(node, kind):
                    place = start[0], end[0], occurrence
                    change = partial(changed_code, code, operator, occurrence)
                    possible.append(Fault(path, kind, place, code, change))
                occurrence += 1
    return possible


def changed_code(code: str, operator: Operator, occurrence: int) -> str | None:
    """The code with one change; nothing where that is no code, or the same program."""
    changed: str = mutate_code(code, operator, occurrence)
    try:
        is_another = ast.dump(ast.parse(changed)) != ast.dump(ast.parse(code))
    except SyntaxError:
        return None
    return changed if is_another else None
