"""The JSON Schemas of a message and of an event: strict, for whoever produces one.

Consumers should ignore what they do not know.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from streamer.wire.base import SCHEMA, Entry
from streamer.wire.events import Event
from streamer.wire.messages import Message

KINDS: dict[str, type[Entry]] = {"result": Message, "event": Event}


class _Strict(GenerateJsonSchema):
    """Refuse unknown keys, but in kinds of somebody's own; what is optional is absent, never null."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        return {"additionalProperties": False, **made} if made.get("type") == "object" else made

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema(kind: str = "result") -> dict[str, Any]:
    """Return the schema of one message, or of one event."""
    made = KINDS[kind].model_json_schema(schema_generator=_Strict)
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"streamer {kind}, schema {SCHEMA}"}
    return {**title, **{key: value for key, value in made.items() if key != "title"}}


def text(kind: str = "result") -> str:
    """Return the schema as it is published."""
    return json.dumps(json_schema(kind), indent=2) + "\n"
