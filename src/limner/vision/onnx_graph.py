"""ONNX files, read and written through a description of the few messages that Limner touches.

The `onnx` package would do the same and is 31 MB. Only the preparation of models (`weights.py`) needs this module.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory  # type: ignore[import-untyped]
from numpy.typing import NDArray

from limner.domain.errors import ModelError

FLOAT, INT64 = 1, 7  # TensorProto.DataType
_DATA_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64}
_IR_VERSION, _OPSET = 8, 17  # what ONNX Runtime has read since 1.12 (2022)

# Field numbers and types are those of onnx.proto (https://github.com/onnx/onnx, Apache-2.0): "number type name", where
# `*` is repeated and `|` a member of the message's one choice. A field that is not here is kept as it is.
_MESSAGES = {
    "Model": "1 int64 ir_version, 2 string producer_name, 7 Graph graph, 8 OperatorSet* opset_import",
    "OperatorSet": "1 string domain, 2 int64 version",
    "Graph": (
        "1 Node* node, 2 string name, 5 Tensor* initializer, 11 Value* input, 12 Value* output, 13 Value* value_info"
    ),
    "Node": "1 string* input, 2 string* output, 3 string name, 4 string op_type, 5 Attribute* attribute",
    "Attribute": "1 string name, 3 int64 i, 8 int64* ints, 20 int32 type",
    "Tensor": "1 int64* dims, 2 int32 data_type, 8 string name, 9 bytes raw_data",
    "Value": "1 string name, 2 Type type",
    "Type": "1 TensorType tensor_type",
    "TensorType": "1 int32 elem_type, 2 Shape shape",
    "Shape": "1 Dimension* dim",
    "Dimension": "1 int64| dim_value, 2 string| dim_param",
}
_INT_ATTRIBUTE, _INTS_ATTRIBUTE = 2, 7  # AttributeProto.AttributeType


@cache
def _classes() -> dict[str, Any]:
    """Message classes by name, in a pool of their own: the `onnx` package may be there too and register the same."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="limner/onnx.proto", package="limner.onnx", syntax="proto2")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for number, marked, label in (entry.split() for entry in fields.split(", ")):
            made = described.field.add(name=label, number=int(number), label=field.LABEL_OPTIONAL)
            if marked.endswith("*"):
                made.label = field.LABEL_REPEATED
            if marked.endswith("|"):
                if not described.oneof_decl:
                    described.oneof_decl.add(name="choice")
                made.oneof_index = 0
            kind = marked.rstrip("*|")
            if kind in _MESSAGES:
                made.type, made.type_name = field.TYPE_MESSAGE, f".limner.onnx.{kind}"
            else:
                made.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"limner.onnx.{name}")) for name in _MESSAGES
    }


def free_input_size(published: bytes, *, channels_last: bool = False) -> bytes:
    """The same graph with free height and width, one picture a batch, and only true inputs listed.

    With `channels_last`, pictures are (1, H, W, 3), and an input that is no picture stays as it is. For fully
    convolutional networks: what fixes their size is only what the file says of its input and outputs.
    ModelError when the bytes are no ONNX model.
    """
    model = _classes()["Model"]()
    try:
        model.ParseFromString(published)
    except message.DecodeError as error:
        raise ModelError(f"The file is not an ONNX model: {error}") from error
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in stored and len(entry.type.tensor_type.shape.dim) == 4]
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.value_info[:]
    for entry in graph.input:
        batch, *others = entry.type.tensor_type.shape.dim
        *size, last = others if channels_last else (*others[1:], others[0])
        if channels_last and last.dim_value != 3:
            continue
        height, width = size
        batch.dim_value = 1
        height.dim_param, width.dim_param = "height", "width"
    for entry in graph.output:
        entry.type.tensor_type.ClearField("shape")
    return bytes(model.SerializeToString(deterministic=True))


class GraphWriter:
    """Builds one ONNX model, node by node in the order of their execution."""

    def __init__(self) -> None:
        self._model = _classes()["Model"](ir_version=_IR_VERSION, producer_name="limner")
        self._model.opset_import.add(domain="", version=_OPSET)
        self._graph = self._model.graph
        self._graph.name = "limner"  # the format wants one

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Stores float32 or int64 values under a name, and gives the name back."""
        tensor = self._graph.initializer.add(name=name, data_type=_DATA_TYPES[array.dtype], dims=array.shape)
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        return name

    def node(self, operator: str, inputs: Iterable[str], output: str, **attributes: int | Sequence[int]) -> str:
        """Adds an operator of the default ONNX domain with one output; gives the output's name back."""
        node = self._graph.node.add(op_type=operator, name=output, input=inputs, output=[output])
        for name, value in attributes.items():
            if isinstance(value, int):
                node.attribute.add(name=name, type=_INT_ATTRIBUTE, i=value)
            else:
                node.attribute.add(name=name, type=_INTS_ATTRIBUTE, ints=value)
        return output

    def input(self, name: str, shape: Sequence[int]) -> None:
        """Declares a float32 input of the graph."""
        self._declare(self._graph.input.add(name=name), shape)

    def output(self, name: str, shape: Sequence[int]) -> None:
        """Declares a float32 output of the graph; outputs come in the order in which they are declared."""
        self._declare(self._graph.output.add(name=name), shape)

    @staticmethod
    def _declare(value: Any, shape: Sequence[int]) -> None:
        value.type.tensor_type.elem_type = FLOAT
        for length in shape:
            value.type.tensor_type.shape.dim.add(dim_value=length)

    def to_bytes(self) -> bytes:
        """The file's content; the same calls give the same bytes."""
        return bytes(self._model.SerializeToString(deterministic=True))
