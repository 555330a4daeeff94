"""Faults in YAML files: each is one line that says where and what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator

from engines.yamlsource import Document, Loc, YamlFault, explain, load, suggest


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Detect(Part):
    kind: Literal["detect"]
    model: str
    confidence: float = Field(0.3, ge=0, le=1)


class Track(Part):
    kind: Literal["track", "follow"]
    detections: str
    keep: int | None = None


class Redis(Part):
    url: str


class File(Part):
    path: str


def which(value: Mapping[str, object]) -> str:
    return "redis" if "url" in value else "file"


Node = Annotated[Detect | Track, Field(discriminator="kind")]
Out = Annotated[Annotated[Redis, Tag("redis")] | Annotated[File, Tag("file")], Discriminator(which)]


class Config(Part):
    nodes: dict[str, Node] = {}
    publish: list[Out] = []
    size: tuple[int, int] | None = None
    labels: str | list[str] = ""
    goal: Literal["latency", "throughput"] = "latency"
    url: str = ""

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: str) -> str:
        if url and not url.startswith("redis"):
            raise ValueError("has a scheme that nobody speaks: start it with redis://")
        return url


def faults(text: str, prefix: Loc = (), model: type[BaseModel] = Config) -> list[str]:
    document = load(text, "detect.yaml")
    data = document.data
    for part in prefix:
        data = data[part]
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return explain(caught.value, document, model, prefix)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "nodes:\n  yolo:\n    kind: detect\n    model: m\n    confidense: 1\n",
            "detect.yaml:5: nodes.yolo.confidense: unknown key (did you mean 'confidence'?)",
        ),
        ("colour: red", "detect.yaml:1: colour: unknown key (known: goal, labels, nodes, publish, size, url)"),
        (
            "nodes:\n  yolo: {kind: detect,\n    model: m, confidence: high}",
            "detect.yaml:3: nodes.yolo.confidence: must be a number, not 'high'",
        ),
        (
            "nodes:\n  yolo: {kind: detect,\n    model: m, confidence: 3}",
            "detect.yaml:3: nodes.yolo.confidence: must be less than or equal to 1, not 3",
        ),
        ("nodes:\n\n  yolo: {kind: detect}", "detect.yaml:3: nodes.yolo.model: is missing"),
        (
            "nodes:\n  a:\n    kind: trak\n    detections: x",
            "detect.yaml:3: nodes.a.kind: must be 'detect', 'track', 'follow', not 'trak' (did you mean 'track'?)",
        ),
        ("nodes:\n  a: {detections: x}", "detect.yaml:2: nodes.a.kind: is missing"),
        ("nodes:\n  a: 5", "detect.yaml:2: nodes.a: must be a mapping, not 5"),
        ("nodes: [a]", "detect.yaml:1: nodes: must be a mapping, not a list"),
        (
            "goal: latecy",
            "detect.yaml:1: goal: must be 'latency' or 'throughput', not 'latecy' (did you mean 'latency'?)",
        ),
        ("labels: {a: 1}", "detect.yaml:1: labels: must be text or a list, not a mapping"),
        ("size: [1, 2, 3]", "detect.yaml:1: size: must have at most 2 items, not 3"),
        (
            "publish:\n- {url: x}\n- {path: a,\n   pth: 1}",
            "detect.yaml:4: publish[1].pth: unknown key (did you mean 'path'?)",
        ),
        ("publish:\n- {url: x}\n- {url: [1]}", "detect.yaml:3: publish[1].url: must be text, not a list"),
        ("url: http://x", "detect.yaml:1: url: has a scheme that nobody speaks: start it with redis://"),
        ("- a", "detect.yaml:1: must be a mapping, not a list"),
        ("", "detect.yaml: must be a mapping, not nothing"),
    ],
)
def test_a_fault_is_one_line_with_place_and_nearest_name(text: str, expected: str) -> None:
    assert faults(text) == [expected]


def test_every_fault_has_its_line() -> None:
    lines = faults("goal: 1\nsize: 2\nnodes:\n  a:\n    kind: track\n    keep: x\n")
    places = [line.split(": ")[0].removeprefix("detect.yaml:") for line in lines]
    assert places == ["4", "6", "2", "1"]  # in the order of the model: nodes.a.detections, nodes.a.keep, size, goal


def test_a_part_of_the_document_is_explained_in_its_place() -> None:
    text = "nodes:\n  yolo:\n    kind: detect\n    modell: m\n"
    assert faults(text, ("nodes", "yolo"), Detect) == [
        "detect.yaml:2: nodes.yolo.model: is missing",
        "detect.yaml:4: nodes.yolo.modell: unknown key (did you mean 'model'?)",
    ]


@pytest.mark.parametrize("secret", ["redis://me:hunter2@host", "me:hunter2@host", "hunter2" * 10])
def test_no_message_repeats_what_may_be_a_password(secret: str) -> None:
    (line,) = faults(f"goal: '{secret}'")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "c.yaml:3: key 'a' is on line 1 already: keep one"),
        ("x:\n  a: 1\n  a: 1", "c.yaml:3: key 'a' is on line 2 already: keep one"),
        ("cameras:\n  on: 1", "c.yaml:2: a key must be text, and 'on' is read as bool: put it into quotes"),
        ("1: a", "c.yaml:1: a key must be text, and '1' is read as int: put it into quotes"),
        ("? [a]\n: 1", "c.yaml:1: a key must be text, and this one is read as seq: put it into quotes"),
        ("a: 1\n\tb: 2", "c.yaml:2: is not YAML: found character '\\t' that cannot start any token"),
        ("a: [1\n", "c.yaml:2: is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: *b", "c.yaml:1: is not YAML: found undefined alias 'b'"),
        ("a: !!python/name:os.system", "c.yaml:1: is not YAML: could not determine a constructor for the tag"),
        ("a: 1\n---\nb: 1", "c.yaml:2: is not YAML: expected a single document in the stream, but found another"),
        ("a: 2024-13-45", "c.yaml: is not YAML: month must be in 1..12"),
        ("a: \x00", "c.yaml: is not YAML: unacceptable character #x0000"),
        ("[" * 5000, "c.yaml: is nested too deeply to be meant"),
    ],
)
def test_what_is_not_yaml_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(YamlFault) as caught:
        load(text, "c.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_lines_of_keys_items_merged_and_absent_ones() -> None:
    document = load("a: &x\n  q: 1\n  r: 2\nb:\n  <<: *x\n  q: 3\nc:\n- 1\n- {d: 2}\n", "c.yaml")
    assert document.data["b"] == {"q": 3, "r": 2}
    lines = {loc: document.line(loc) for loc in [(), ("a",), ("b", "q"), ("c", 0), ("c", 1, "d"), ("c", 7), ("z", "y")]}
    assert lines == {(): 1, ("a",): 1, ("b", "q"): 6, ("c", 0): 8, ("c", 1, "d"): 9, ("c", 7): 7, ("z", "y"): 1}


def test_what_was_not_read_from_a_text_has_no_line() -> None:
    document = Document({"a": 1}, "--set")
    assert document.line(("a",)) is None
    assert document.at(("a", 0)) == "--set: a[0]: "


@given(st.text())
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    said = "c.yaml"
    try:
        load(text, "c.yaml")
    except YamlFault as error:
        said = str(error)
    assert said.startswith("c.yaml")
    assert "\n" not in said


def test_suggest_lists_what_there_is_when_nothing_is_near() -> None:
    assert suggest("zzz", ["b", "a"]) == " (known: a, b)"
    assert suggest("zzz", []) == ""
    assert suggest("zzz", (f"n{i:02}" for i in range(99))).endswith("n11, …)")


def test_aliases_of_aliases_do_not_grow_beyond_all_bounds() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(YamlFault, match="too large once its aliases are written out"):
        load("\n".join(levels), "p.yaml")
