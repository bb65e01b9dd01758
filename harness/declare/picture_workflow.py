"""ComfyUI's `workflow`, the graph as its editor saves it, in the format of `prompt`, for pictures that have no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.declare.picture_nodes import WIDGETS

_OFF, _BYPASSED = 2, 4
"""Values of a node's `mode`."""


def as_graph(workflow: object) -> dict[str, dict[str, Any]]:
    """The nodes of a workflow by id, each with its class and inputs. A bypassed node gets another class, because it
    passes on other things than its own says. Raises ValueError for what is not a workflow."""
    if not isinstance(workflow, Mapping) or not isinstance(workflow.get("nodes"), list):
        raise ValueError("its ComfyUI workflow has no list of nodes")  # noqa: TRY004  the content of a file, not a call
    links = {str(link[0]): [str(link[1]), link[2]] for link in map(_in_a_row, _listed(workflow.get("links")))
             if len(link) >= 3 and isinstance(link[2], int)}
    graph: dict[str, dict[str, Any]] = {}
    for node in filter(_is_node, workflow["nodes"]):
        kind, name = str(node.get("type", "")), str(node["id"])
        if node.get("mode") == _OFF:
            continue
        if node.get("mode") == _BYPASSED:
            kind = f"{kind} (bypassed)"
        values = node.get("widgets_values")
        known = WIDGETS.get(kind, ())
        inputs: dict[str, Any] = dict(zip(known, values, strict=False)) if isinstance(values, list) else (
            dict(values) if isinstance(values, Mapping) else {})
        for entry in filter(lambda entry: isinstance(entry, Mapping), _listed(node.get("inputs"))):
            if str(entry.get("link")) in links:
                inputs[str(entry.get("name", ""))] = links[str(entry["link"])]
        graph[name] = {"class_type": kind, "inputs": inputs}
    return graph


def _is_node(node: object) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("id"), int | str)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _in_a_row(link: object) -> list[Any]:
    """A link as a list of id, node, output; newer workflows write a table."""
    if isinstance(link, Mapping):
        return [link.get("id"), link.get("origin_id"), link.get("origin_slot")]
    return link if isinstance(link, list) else []
