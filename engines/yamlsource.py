"""YAML that remembers its lines, so that every fault in a file is one sentence that says where.

    document = load(text, "detect.yaml")               # YamlFault: not YAML, a key twice, a key that is not text
    document.data                                      # plain dicts, lists and scalars
    document.line(("nodes", "yolo", "confidence"))     # 7; of what is absent, the line of its nearest present parent
    document.at(("nodes", "yolo"))                     # "detect.yaml:5: nodes.yolo: ", to begin a message with
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError("\\n".join(explain(error, document, Config))) from None

`explain` gives one line a fault: ``detect.yaml:7: nodes.yolo.confidense: unknown key (did you mean 'confidence'?)``.
Where only a part of the document was validated, *prefix* is the path to that part. `suggest` makes such a bracket for
names that pydantic knows nothing of. No line repeats a value that could hold a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

Loc: TypeAlias = tuple[str | int, ...]

_MOST_LISTED = 12  # names in one message
_LONGEST_SHOWN = 40  # characters of a value in one message
_WANTED = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "mapping": "a mapping",
    "model": "a mapping",
    "model_attributes": "a mapping",
    "string": "text",
    "tuple": "a list",
}


class YamlFault(ValueError):  # noqa: N818 - callers make an error of theirs from it
    """The text is not YAML that we take. The message is one sentence with file and line; callers translate the type."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """What a YAML text says, and on which line it says it."""

    data: Any
    name: str  # as people know the file
    root: yaml.Node | None = None

    def line(self, loc: Loc) -> int | None:
        """Tell the line, from 1, of a key or list item; of what is absent, that of its nearest present parent."""
        node, mark = self.root, None if self.root is None else self.root.start_mark
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            node, mark = found[1], found[0].start_mark
        return None if mark is None else mark.line + 1

    def at(self, loc: Loc) -> str:
        """Begin a message about *loc*: ``name:line: key.path: ``, as far as they are known."""
        line = self.line(loc)
        where = self.name if line is None else f"{self.name}:{line}"
        return f"{where}: {dotted(loc)}: " if loc else f"{where}: "


_MOST_NODES = 1_000_000  # of a document, its aliases written out


def load(text: str, name: str) -> Document:
    """Read one YAML document, called *name* in messages. Raise YamlFault when it is not YAML that we take."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return Document(None, name)
        if _written_out(root, {}) > _MOST_NODES:
            raise YamlFault(f"{name}: is too large once its aliases are written out; write less")
        _check_keys(root, name)
        return Document(loader.construct_document(root), name, root)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem or error.context)
        said = f"{error.context}, {problem}" if problem.startswith("but ") else problem
        raise YamlFault(f"{name}{line}: is not YAML: {said}") from None
    except yaml.YAMLError as error:
        raise YamlFault(f"{name}: is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise YamlFault(f"{name}: is nested too deeply to be meant") from None
    except YamlFault:
        raise
    except (ValueError, KeyError, AttributeError) as error:  # what YAML's types themselves raise: 2024-13-45 for a date
        raise YamlFault(f"{name}: is not YAML: {error}") from None


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Count what a document comes to where each alias is a copy: nine of nine of nine … fit into a few lines."""
    if id(node) not in known:
        known[id(node)] = 1  # one that contains itself is found out by whoever walks it
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        counts = (_written_out(part, known) for part in parts) if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = 1 + sum(counts)
    return known[id(node)]


def explain(error: ValidationError, document: Document, model: type[BaseModel], prefix: Loc = ()) -> list[str]:
    """Say each fault that *model* found in *document* (below *prefix*) in one line: where, what, the nearest name."""
    sentences: dict[Loc, list[str]] = {}  # the members of a union complain one by one about the same value
    for fault in error.errors(include_url=False):
        loc, sentence = _fault(fault, model)
        sentences.setdefault(prefix + loc, []).append(sentence)
    return [document.at(loc) + _either(parts) for loc, parts in sentences.items()]


def suggest(word: str, known: Iterable[str]) -> str:
    """Make the bracket that names what *word* was probably meant to be, else all that is known, else nothing."""
    names = sorted(known)
    if close := difflib.get_close_matches(word, names, n=1):
        return f" (did you mean {close[0]!r}?)"
    listed = names if len(names) <= _MOST_LISTED else [*names[:_MOST_LISTED], "…"]
    return f" (known: {', '.join(listed)})" if names else ""


def dotted(loc: Loc) -> str:
    """Write a path as people do: ``publish[0].url``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Find what marks the place of *part* in *node* (its key, or the item itself), and its value."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        # From the end: construction puts what `<<` merges in front of the keys that override it.
        return next(((key, value) for key, value in reversed(node.value) if key.value == part), None)
    return None


def _check_keys(root: yaml.Node, name: str) -> None:
    """Refuse what YAML allows and nobody means: a key given twice, and keys like ``on`` that YAML reads as a truth."""
    todo, done = [root], set[int]()
    while todo:
        node = todo.pop()
        if id(node) in done:  # an alias; one that contains itself would never end
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_mapping(node, name)
            todo += [value for _, value in node.value]


def _check_mapping(node: yaml.MappingNode, name: str) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line, kind = key.start_mark.line + 1, key.tag.rpartition(":")[2]
        if kind not in ("str", "merge"):
            shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "this one"
            raise YamlFault(f"{name}:{line}: a key must be text, and {shown} is read as {kind}: put it into quotes")
        if key.value in first:
            raise YamlFault(f"{name}:{line}: key {key.value!r} is on line {first[key.value]} already: keep one")
        first[key.value] = line


def _fault(fault: ErrorDetails, model: type[BaseModel]) -> tuple[Loc, str]:
    """Where a fault is in the file (pydantic's path without its own words), and a sentence about it."""
    kind, context = fault["type"], fault.get("ctx", {})
    loc, _ = _follow(model, fault["loc"])
    if kind.startswith("union_tag"):
        key = context["discriminator"].strip("'")
        missing = kind == "union_tag_not_found"
        choice = _choice(context["expected_tags"], context["tag"]) if not missing else "is missing"
        return (*loc, key), choice
    if kind == "extra_forbidden":
        _, parent = _follow(model, fault["loc"][:-1])
        return loc, f"unknown key{suggest(str(loc[-1]), _keys(parent))}"
    return loc, _sentence(fault)


def _either(sentences: list[str]) -> str:
    """Join what the members of a union say: "must be text or a list, not a mapping" where they agree on the end."""
    heads, tails = zip(*((head, tail) for head, _, tail in (s.partition(", not ") for s in sentences)), strict=True)
    if len(set(tails)) > 1 or not all(head.startswith("must be ") for head in heads):
        return ", or ".join(dict.fromkeys(sentences))
    wanted = " or ".join(head.removeprefix("must be ") for head in dict.fromkeys(heads))
    return f"must be {wanted}, not {tails[0]}"


def _sentence(fault: ErrorDetails) -> str:
    kind, context, shown = fault["type"], fault.get("ctx", {}), _shown(fault["input"])
    if kind == "missing":
        return "is missing"
    if kind in ("literal_error", "enum"):
        return _choice(context["expected"], fault["input"])
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind in ("too_long", "too_short"):
        bound, limit = ("most", "max_length") if kind == "too_long" else ("least", "min_length")
        return f"must have at {bound} {context[limit]} items, not {context['actual_length']}"
    if wanted := _WANTED.get(re.sub("_(type|parsing|from_float)$", "", kind)):
        return f"must be {wanted}, not {shown}"
    subject, should, rest = fault["msg"].partition(" should ")
    return f"must {rest}, not {shown}" if should else subject[:1].lower() + subject[1:]


def _choice(expected: str, value: object) -> str:
    names = re.findall("'([^']*)'", expected)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"must be {expected}, not {_shown(value)}{hint}"


def _shown(value: object) -> str:
    """Repeat a value where that helps; one that is long, or may be a URL with a password, is only described."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        secret = "://" in value or "@" in value
        return "this text" if secret or len(value) > _LONGEST_SHOWN else repr(value)
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else type(value).__name__


def _follow(model: type[BaseModel], loc: Loc) -> tuple[Loc, Any]:
    """Walk *loc* through the annotations: the path as it is in the file, and the annotation at its end.

    Pydantic's paths also name the member of a union that complains, and say ``[key]``; neither is in the file.
    """
    path: Loc = ()
    here: Any = model
    for part in loc:
        members = list(_members(here))
        if len(members) > 1:
            here = next((m for m in members if part in _labels(m)), object)
        elif part != "[key]":
            here = _under(members[0] if members else object, part)
            path = (*path, part)
    last = list(_members(here))
    return path, last[0] if len(last) == 1 else object


def _members(annotation: Any) -> Iterator[Any]:
    """Take Annotated and Optional off; a union comes apart into its members."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        tagged = any(isinstance(note, Tag) for note in notes)
        yield from [annotation] if tagged else _members(inner)
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif annotation is not NoneType:
        yield annotation


def _labels(member: Any) -> set[object]:
    """By which words pydantic may call a union's member: its tag, its class, the values of its discriminator."""
    notes = get_args(member)[1:] if get_origin(member) is Annotated else ()
    labels: set[object] = {note.tag for note in notes if isinstance(note, Tag)} | {getattr(member, "__name__", None)}
    if isinstance(member, type) and issubclass(member, BaseModel):
        for field in member.model_fields.values():
            labels.update(get_args(field.annotation) if get_origin(field.annotation) is Literal else ())
    return labels


def _under(annotation: Any, part: str | int) -> Any:
    """The annotation of one field or item."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return next((f.annotation for name, f in fields if part in (name, f.alias)), object)
    inner = get_args(annotation)
    if not inner:
        return object
    return inner[-1] if isinstance(part, str) else inner[0]


def _keys(annotation: Any) -> list[str]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    return [field.alias or name for name, field in annotation.model_fields.items()]
