"""`/api/docs`: the OpenAPI document as a page for people, made here, with nothing from elsewhere and no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clawhaven.api.deps import Ctx

router = APIRouter()

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(str(files("clawhaven.api"))) / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One thing an operation takes: in the path, the query, a header or the body."""

    name: str
    place: str
    kind: str
    is_required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One call."""

    method: str
    path: str
    text: str
    status: str
    fields: tuple[Field, ...]

    @property
    def anchor(self) -> str:
        """Where on the page it is."""
        return f"{self.method.lower()}{self.path}".replace("/", "-").replace("{", "").replace("}", "")


@router.get("/docs", include_in_schema=False)
def show(request: Request, ctx: Ctx) -> HTMLResponse:
    """Every operation with what it takes."""
    document = request.app.openapi()
    html = TEMPLATES.get_template("reference.html").render(
        title=document["info"]["title"],
        version=document["info"]["version"],
        brand=ctx.settings.brand_name,
        base_url=ctx.settings.base_url,
        groups=groups_of(document),
    )
    return HTMLResponse(html, headers=HEADERS)


def groups_of(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Tag -> its operations, in the document's order."""
    groups: dict[str, list[Operation]] = {}
    schemas = document.get("components", {}).get("schemas", {})
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            operation = Operation(
                method.upper(),
                path,
                " ".join(call.get("description", "").split()),
                next((status for status in call["responses"] if status.startswith("2")), ""),
                (*_parameters(call), *_body(call, schemas)),
            )
            groups.setdefault(call.get("tags", ["other"])[0], []).append(operation)
    return groups


def _parameters(call: Mapping[str, Any]) -> Iterator[Field]:
    for one in call.get("parameters", ()):
        text = one.get("description", "")
        yield Field(one["name"], one["in"], kind_of(one["schema"]), one.get("required", False), text)


def _body(call: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Field]:
    content = call.get("requestBody", {}).get("content", {})
    for described in content.values():
        schema = described["schema"]
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        required = schema.get("required", ())
        for name, one in schema.get("properties", {}).items():
            text = f"Default: {one['default']}." if one.get("default") not in (None, "") else ""
            yield Field(name, "body", kind_of(one), name in required, text)
        if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
            yield Field("(any name)", "body", kind_of(schema["additionalProperties"]), False, "")


def kind_of(schema: Mapping[str, Any]) -> str:
    """The type in words: `string, at most 320 characters`, `integer, 1 to 200`, `list of string`."""
    if "anyOf" in schema:
        return " or ".join(kind_of(one) for one in schema["anyOf"] if one.get("type") != "null")
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    if "minimum" in schema and "maximum" in schema:
        kind += f", {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        kind += f", at most {schema['maxLength']:,} characters"
    if schema.get("format") == "date-time":
        kind = "time, ISO 8601 with a zone"
    return kind
