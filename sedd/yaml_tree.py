"""The value of a YAML tree, with the line of each key; what YAML reads as something else than it looks is a problem."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from sedd.complaints import Key, Problem, clip
from sedd.errors import SpecError

_MOST_VALUES = 50_000
"""Of a document, with those that its aliases repeat."""
_LONGEST_NUMBER = 100
"""Characters; Python itself refuses to print larger numbers than it reads."""
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
FLOAT_WITHOUT_DOT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
"""YAML 1.1 reads 1e-3 as a word."""
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
WORD_BOOLEANS = {"yes", "no", "on", "off", "y", "n"}
BOOLEAN_OR_WORD = ": write true or false, or quote it"
"""The advice to one of them where nothing is known of its field."""


def trap(text: str) -> str | None:
    """What is wrong with a plain scalar that YAML 1.1 reads as something else than it looks, or None."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if _SEXAGESIMAL.fullmatch(text):
        return f"{text} is a base-60 number in YAML: write a duration like 24h, or quote it: '{text}'"
    if FLOAT_WITHOUT_DOT.fullmatch(text) and not isinstance(yaml.safe_load(text), float):
        mantissa, exponent = re.split("[eE]", text)
        mantissa += "" if "." in mantissa else ".0"
        exponent = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"{text} is a string in YAML 1.1: write {mantissa}e{exponent}"
    if _OCTAL.fullmatch(text):
        decimal = re.sub(r"^([-+]?)0+(?=\d)", r"\1", text.replace("_", ""))
        return f"{text} is octal in YAML 1.1 and decimal in 1.2: write {decimal}, or quote it"
    if text.lower() in WORD_BOOLEANS:
        return f"{text} is a boolean in YAML 1.1 and a word in 1.2{BOOLEAN_OR_WORD}"
    return None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a value that is a problem already."""

    problem: Problem | None = None
    """Which, of a trap."""
    text: str = ""


class TreeReader:
    """Builds a YAML tree's value; notes the line of every key, and every trap and repeated key as a problem."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Key, int] = {}
        self.problems: list[Problem] = []
        self._values = 0
        self._open: list[yaml.Node] = []

    def read(self, node: yaml.Node, key: Key) -> Any:
        if node in self._open:
            self._complain(node, f"{_dotted(key)}an anchor that holds itself")
            return Unreadable()
        self._open.append(node)
        try:
            return self._read(node, key)
        finally:
            self._open.pop()

    def _read(self, node: yaml.Node, key: Key) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise SpecError(
                f"{self.name}: more than {_MOST_VALUES:,} values: do aliases (*name) repeat each other?"
            )
        if isinstance(node, yaml.MappingNode):
            self._complain_of_repeats(node)
            return {label: self._at(child, (*key, label), line) for label, child, line in self._pairs(node)}
        if isinstance(node, yaml.SequenceNode):
            return [self._at(child, (*key, i), _line(child)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.style is None and (wrong := trap(node.value)):
            self._complain(node, f"{_dotted(key)}{wrong}")
            return Unreadable(self.problems[-1], node.value)
        if node.tag in _NUMBER_TAGS and len(node.value) > _LONGEST_NUMBER:
            self._complain(
                node, f"{_dotted(key)}{clip(node.value)} is a number of {len(node.value):,} characters"
            )
            return Unreadable()
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as e:
            self._complain(
                node,
                f"{_dotted(key)}cannot read {clip(repr(node.value))}: {getattr(e, 'problem', None) or e}",
            )
            return Unreadable()

    def _at(self, node: yaml.Node, key: Key, line: int) -> Any:
        self.lines[key] = line
        return self.read(node, key)

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[str, yaml.Node, int]]:
        """Key, value and line; those that `<<: *anchor` brings come first, so that the mapping's own win."""
        own: list[tuple[str, yaml.Node, int]] = []
        merged: list[tuple[str, yaml.Node, int]] = []
        for label, child in node.value:
            if label.tag != "tag:yaml.org,2002:merge":
                own.append((str(label.value), child, _line(label)))
                continue
            for source in child.value if isinstance(child, yaml.SequenceNode) else [child]:
                if not isinstance(source, yaml.MappingNode) or source in self._open:
                    self._complain(label, "<<: expected an *anchor of another section")
                    continue
                self._open.append(source)
                merged = self._pairs(source) + merged
                self._open.pop()
        return merged + own

    def _complain_of_repeats(self, node: yaml.MappingNode) -> None:
        seen = set()
        for label, _ in node.value:
            if not isinstance(label, yaml.ScalarNode):
                self._complain(label, "a key must be a word, not a list or section")
            elif label.value in seen:
                self._complain(label, f"'{clip(label.value)}' is given twice")
            else:
                seen.add(label.value)

    def _complain(self, node: yaml.Node, what: str) -> None:
        self.problems.append(Problem(f"{self.name}:{_line(node)}", what))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _dotted(key: Key) -> str:
    return clip(".".join(map(str, key))) + ": " if key else ""
