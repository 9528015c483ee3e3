"""Tiny ONNX networks, made node by node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, WHOLE = TensorProto.FLOAT, TensorProto.INT64


def weights(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Sequence[int | str]]],
    outputs: Sequence[tuple[str, int, Sequence[int | str] | None]],
    constants: dict[str, np.ndarray[Any, Any]],
    *,
    beside: str | None = None,
) -> Path:
    """Write a checked model; with `beside`, its constants lie in that file."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"save_as_external_data": True, "location": beside, "size_threshold": 100} if beside else {}
    onnx.save(model, str(path), **kept)
    return path


def image_model(
    path: Path,
    *,
    batch: int | str = "n",
    side: int | str = 32,
    outputs: Sequence[str] = ("grid", "pooled"),
    width: int = 8,
    cell: int = 8,
    beside: str | None = None,
    scale: float = 1.0,
    channels_last: bool = False,
    extra_input: bool = False,
) -> Path:
    """Cells of `cell` x `cell` pixels mapped to `width`, as "grid" (n, w, r, c), "fragments" (n, r c, w), "pooled"."""
    constants = {"kernel": scale * weights(width, 3, cell, cell) / cell, "far": np.array([0, width, -1], np.int64)}
    nodes = [
        helper.make_node("Conv", ["pixel_values", "kernel"], ["grid"], strides=[cell, cell]),
        helper.make_node("Reshape", ["grid", "far"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["fragments"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["grid"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["grid"], ["one"], axes=[1, 2, 3], keepdims=0),
    ]
    shape = [batch, side, side, 3] if channels_last else [batch, 3, side, side]
    if channels_last:
        nodes.insert(0, helper.make_node("Transpose", ["given"], ["pixel_values"], perm=[0, 3, 1, 2]))
    inputs: list[tuple[str, int, Sequence[int | str]]] = [("given" if channels_last else "pixel_values", FLOAT, shape)]
    if extra_input:
        inputs.append(("input_ids", WHOLE, ["n", "w"]))
    shapes: dict[str, list[int | str]] = {
        "grid": ["n", width, "r", "c"],
        "fragments": ["n", "f", width],
        "pooled": ["n", width],
        "one": ["n"],
    }
    return save(path, nodes, inputs, [(name, FLOAT, shapes[name]) for name in outputs], constants, beside=beside)


def text_model(path: Path, *, words: int, outputs: Sequence[str] = ("last_hidden_state",), width: int = 8) -> Path:
    """A table of words, and the mean of those that the mask leaves."""
    constants = {
        "table": weights(words, width, seed=1),
        "last": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["last_hidden_state", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["wide", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["text_embeds"]),
    ]
    shapes: dict[str, list[int | str]] = {"last_hidden_state": ["n", "w", width], "text_embeds": ["n", width]}
    given = [(name, WHOLE, ["n", "w"]) for name in ("input_ids", "attention_mask")]
    return save(path, nodes, given, [(name, FLOAT, shapes[name]) for name in outputs], constants)
