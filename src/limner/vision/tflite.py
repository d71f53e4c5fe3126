"""TensorFlow Lite networks as ONNX, so that one runtime runs every network.

Knows the operators of MediaPipe's face, iris and person networks and no other; `to_onnx` is the way in. The meaning of
each operator is TensorFlow Lite's (https://ai.google.dev/edge/litert/models/ops_compatibility).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers.number_types import Int8Flags, Int32Flags, Uint32Flags  # type: ignore[import-untyped]
from flatbuffers.table import Table  # type: ignore[import-untyped]
from numpy.typing import NDArray

from limner.domain.errors import ModelError
from limner.vision.onnx_graph import GraphWriter

_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}  # by TensorType
_SAME, _VALID = 0, 1  # Padding
_NHWC_TO_NCHW, _NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def to_onnx(published: bytes) -> bytes:
    """The network as an ONNX model with the same inputs and outputs: names, order, NHWC shapes, float32.

    Inside, pictures are NCHW and 16-bit weights are written as 32-bit ones, which is exact. ModelError for an operator
    or an option that this module does not know.
    """
    return _Conversion(_Network(published), GraphWriter()).run()


class _Record:
    """A table of a flatbuffer. `slot` counts the fields in the order of TensorFlow Lite's schema.fbs, from 0."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def _offset(self, slot: int) -> int:
        return int(self._table.Offset(4 + 2 * slot))

    def number(self, slot: int, flags: Any, default: int = 0) -> int:
        offset = self._offset(slot)
        return int(self._table.Get(flags, self._table.Pos + offset)) if offset else default

    def text(self, slot: int) -> str:
        offset = self._offset(slot)
        return bytes(self._table.String(self._table.Pos + offset)).decode() if offset else ""

    def record(self, slot: int) -> "_Record":
        """A table inside this one; ModelError when it is absent."""
        offset = self._offset(slot)
        if not offset:
            raise ModelError("The network lacks a part that it must have.")
        return _Record(Table(self._table.Bytes, self._table.Indirect(self._table.Pos + offset)))

    def records(self, slot: int) -> list["_Record"]:
        offset = self._offset(slot)
        if not offset:
            return []
        start, bytes_ = self._table.Vector(offset), self._table.Bytes
        return [
            _Record(Table(bytes_, self._table.Indirect(start + 4 * index)))
            for index in range(self._table.VectorLen(offset))
        ]

    def values(self, slot: int, dtype: str) -> NDArray[Any]:
        offset = self._offset(slot)
        if not offset:
            return np.empty(0, dtype)
        count = self._table.VectorLen(offset)
        return np.frombuffer(self._table.Bytes, dtype, count, self._table.Vector(offset))


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    stored: NDArray[Any] | None  # a constant's values: float32, float16 or int32; None when it is computed


@dataclass(frozen=True, slots=True)
class _Operator:
    code: int
    custom: str  # the name of an operator that is not TensorFlow Lite's own
    inputs: tuple[int, ...]  # indices of tensors
    outputs: tuple[int, ...]
    record: _Record

    @property
    def options(self) -> _Record:
        return self.record.record(4)


class _Network:
    """What the file holds. Slots are those of schema.fbs: Model, OperatorCode, SubGraph, Tensor, Buffer, Operator."""

    def __init__(self, data: bytes) -> None:
        if data[4:8] != b"TFL3":
            raise ModelError("The file is not a TensorFlow Lite network.")
        model = _Record(Table(data, int.from_bytes(data[:4], "little")))
        subgraphs = model.records(2)
        if len(subgraphs) != 1:
            raise ModelError(f"The network has {len(subgraphs)} graphs; only one can be converted.")
        (graph,) = subgraphs
        buffers = [buffer.values(0, "u1") for buffer in model.records(4)]
        # Old files write the code as a byte (slot 0), new ones as an int (slot 3); the larger of both counts.
        codes = [max(code.number(0, Int8Flags), code.number(3, Int32Flags)) for code in model.records(1)]
        customs = [code.text(1) for code in model.records(1)]
        self.tensors = [_tensor(record, buffers) for record in graph.records(0)]
        self.inputs = [int(index) for index in graph.values(1, "<i4")]
        self.outputs = [int(index) for index in graph.values(2, "<i4")]
        self.operators = [
            _Operator(
                code=codes[record.number(0, Uint32Flags)],
                custom=customs[record.number(0, Uint32Flags)],
                inputs=tuple(int(index) for index in record.values(1, "<i4")),
                outputs=tuple(int(index) for index in record.values(2, "<i4")),
                record=record,
            )
            for record in graph.records(3)
        ]


def _tensor(record: _Record, buffers: list[NDArray[Any]]) -> _Tensor:
    name, shape = record.text(3), tuple(int(length) for length in record.values(0, "<i4"))
    data, kind = buffers[record.number(2, Uint32Flags)], record.number(1, Int8Flags)
    if not data.size:
        return _Tensor(name, shape, None)
    if kind not in _DTYPES:
        raise ModelError(f"The network's tensor {name!r} is of an unknown type ({kind}).")
    return _Tensor(name, shape, data.view(_DTYPES[kind]).reshape(shape))


class _Conversion:
    """One network on its way to ONNX: each tensor that was seen has a name in the new graph or constant values."""

    def __init__(self, network: _Network, graph: GraphWriter) -> None:
        self._network = network
        self._graph = graph
        self._names: dict[int, str] = {}  # of computed tensors; those of four dimensions are NCHW
        self._stored = {index: tensor.stored for index, tensor in enumerate(network.tensors)}
        self._convert: dict[int, Callable[[_Operator], None]] = {  # BuiltinOperator
            0: self._add,
            1: self._average_pool_2d,
            3: self._conv_2d,
            4: self._depthwise_conv_2d,
            6: self._dequantize,
            14: lambda operator: self._same(operator, "Sigmoid"),
            17: self._max_pool_2d,
            18: self._multiply,
            19: lambda operator: self._same(operator, "Relu"),
            22: self._reshape,
            23: self._resize_bilinear,
            32: self._custom,
            34: self._pad,
            54: self._prelu,
            117: lambda operator: self._same(operator, "HardSwish"),
        }

    def run(self) -> bytes:
        for index in self._network.inputs:
            tensor = self._network.tensors[index]
            self._graph.input(tensor.name, tensor.shape)
            self._names[index] = self._transposed(tensor.name, f"{index}_nchw", _NHWC_TO_NCHW)
        for operator in self._network.operators:
            convert = self._convert.get(operator.code)
            if convert is None:
                raise ModelError(f"The network uses an operator that cannot be converted (number {operator.code}).")
            convert(operator)
        for index in self._network.outputs:
            tensor = self._network.tensors[index]
            if len(tensor.shape) == 4:
                self._transposed(self._names[index], tensor.name, _NCHW_TO_NHWC)
            else:
                self._graph.node("Identity", [self._names[index]], tensor.name)
            self._graph.output(tensor.name, tensor.shape)
        return self._graph.to_bytes()

    def _transposed(self, name: str, result: str, order: tuple[int, ...]) -> str:
        return self._graph.node("Transpose", [name], result, perm=order)

    def _emit(self, operator: _Operator, kind: str, inputs: list[str], **attributes: int | list[int]) -> None:
        (output,) = operator.outputs
        self._names[output] = self._graph.node(kind, inputs, str(output), **attributes)

    def _values(self, index: int) -> NDArray[Any]:
        values = self._stored[index]
        if values is None:
            raise ModelError(f"The network computes {self._network.tensors[index].name!r}, which must be a constant.")
        return values

    def _constant(self, index: int, values: NDArray[Any]) -> str:
        return self._graph.constant(f"{index}_constant", np.ascontiguousarray(values))

    def _shape(self, index: int) -> tuple[int, ...]:
        return self._network.tensors[index].shape

    def _dequantize(self, operator: _Operator) -> None:
        """float16 weights to float32, here and now."""
        self._stored[operator.outputs[0]] = self._values(operator.inputs[0]).astype(np.float32)

    def _conv_2d(self, operator: _Operator) -> None:
        """Weights (out, height, width, in). Conv2DOptions: padding, strides, activation, dilations."""
        options = operator.options
        _refuse(options.number(3, Int8Flags), 0, "activation")
        for slot in (4, 5):
            _refuse(options.number(slot, Int32Flags, 1), 1, "dilation")
        weights = self._values(operator.inputs[1]).transpose(0, 3, 1, 2)
        self._convolution(operator, options, weights, group=1)

    def _depthwise_conv_2d(self, operator: _Operator) -> None:
        """Weights (1, height, width, out). DepthwiseConv2DOptions: a multiplier comes before the activation."""
        options = operator.options
        _refuse(options.number(4, Int8Flags), 0, "activation")
        for slot in (5, 6):
            _refuse(options.number(slot, Int32Flags, 1), 1, "dilation")
        weights = self._values(operator.inputs[1]).transpose(3, 0, 1, 2)
        self._convolution(operator, options, weights, group=self._shape(operator.inputs[0])[3])

    def _convolution(self, operator: _Operator, options: _Record, weights: NDArray[Any], group: int) -> None:
        picture, weights_at, bias_at = operator.inputs
        kernel = weights.shape[2:]
        strides = [options.number(2, Int32Flags), options.number(1, Int32Flags)]
        inputs = [self._names[picture], self._constant(weights_at, weights)]
        inputs.append(self._constant(bias_at, self._values(bias_at)))
        pads = self._pads(options, picture, kernel, strides)
        self._emit(operator, "Conv", inputs, kernel_shape=list(kernel), strides=strides, pads=pads, group=group)

    def _max_pool_2d(self, operator: _Operator) -> None:
        """Pool2DOptions: padding, stride and size (width before height), activation."""
        options = operator.options
        _refuse(options.number(5, Int8Flags), 0, "activation")
        (picture,) = operator.inputs
        strides = [options.number(2, Int32Flags), options.number(1, Int32Flags)]
        kernel = (options.number(4, Int32Flags), options.number(3, Int32Flags))
        pads = self._pads(options, picture, kernel, strides)
        self._emit(operator, "MaxPool", [self._names[picture]], kernel_shape=list(kernel), strides=strides, pads=pads)

    def _average_pool_2d(self, operator: _Operator) -> None:
        """Pool2DOptions, as above; only over the whole picture."""
        options = operator.options
        _refuse(options.number(5, Int8Flags), 0, "activation")
        (picture,) = operator.inputs
        kernel = (options.number(4, Int32Flags), options.number(3, Int32Flags))
        if kernel != self._shape(picture)[1:3] or self._shape(operator.outputs[0])[1:3] != (1, 1):
            raise ModelError("The network averages parts of a picture, which cannot be converted.")
        self._emit(operator, "GlobalAveragePool", [self._names[picture]])

    def _resize_bilinear(self, operator: _Operator) -> None:
        """ResizeBilinearOptions: two that are no longer used, whether corners are aligned, whether centres are.

        As two matrices. ONNX's own Resize needs attributes that are texts, which `GraphWriter` does not write.
        """
        _refuse(operator.options.number(2, Int8Flags), 0, "resizing")
        _refuse(operator.options.number(3, Int8Flags), 1, "resizing")
        picture, (output,) = operator.inputs[0], operator.outputs
        before, after = self._shape(picture)[1:3], self._shape(output)[1:3]
        down = self._graph.constant(f"{output}_down", _bilinear(before[0], after[0]))
        across = self._graph.constant(f"{output}_across", np.ascontiguousarray(_bilinear(before[1], after[1]).T))
        tall = self._graph.node("MatMul", [down, self._names[picture]], f"{output}_tall")
        self._emit(operator, "MatMul", [tall, across])

    def _custom(self, operator: _Operator) -> None:
        """MediaPipe's Convolution2DTransposeBias, weights (out, height, width, in), where no pixels overlap.

        Its options are three numbers: padding, and the strides across and down.
        """
        if operator.custom != "Convolution2DTransposeBias":
            raise ModelError(f"The network uses an operator that cannot be converted ({operator.custom}).")
        picture, weights_at, bias_at = operator.inputs
        weights = self._values(weights_at).transpose(3, 0, 1, 2)
        _, across, down = operator.record.values(5, "u1").view("<i4")
        if weights.shape[2:] != (down, across):
            raise ModelError("The network enlarges a picture with pixels that overlap, which cannot be converted.")
        inputs = [self._names[picture], self._constant(weights_at, weights)]
        inputs.append(self._constant(bias_at, self._values(bias_at)))
        self._emit(operator, "ConvTranspose", inputs, strides=[int(down), int(across)])

    def _pads(self, options: _Record, picture: int, kernel: tuple[int, ...], strides: list[int]) -> list[int]:
        """Rows above, columns before, rows below, columns after. SAME gives ceil(length / stride) places, and where
        the sum is odd, the larger part comes after."""
        padding = options.number(0, Int8Flags)
        if padding == _VALID:
            return [0, 0, 0, 0]
        _refuse(padding, _SAME, "padding")
        sums = [
            max((-(-length // stride) - 1) * stride + size - length, 0)
            for length, size, stride in zip(self._shape(picture)[1:3], kernel, strides, strict=True)
        ]
        return [total // 2 for total in sums] + [total - total // 2 for total in sums]

    def _prelu(self, operator: _Operator) -> None:
        """Slopes (1, 1, channels): slope * x + (1 - slope) * relu(x), as convolutions of one pixel.

        ONNX has PRelu, but ONNX Runtime computes it slowly and outside the convolutions' memory layout: with it the
        networks take four times as long.
        """
        picture, slopes_at = operator.inputs
        (output,) = operator.outputs
        if self._shape(slopes_at) != (1, 1, self._shape(picture)[3]):
            raise ModelError("The network has slopes for single pixels, which cannot be converted.")
        name, slopes = self._names[picture], self._values(slopes_at).reshape(-1, 1, 1, 1)
        positive = self._graph.node("Relu", [name], f"{output}_positive")
        parts = [
            self._graph.node(
                "Conv",
                [source, self._graph.constant(f"{output}_{part}_scale", np.ascontiguousarray(scale))],
                f"{output}_{part}",
                kernel_shape=[1, 1],
                group=len(scale),
            )
            for part, source, scale in (("linear", name, slopes), ("rectified", positive, 1 - slopes))
        ]
        self._emit(operator, "Add", parts)

    def _add(self, operator: _Operator) -> None:
        first, second = operator.inputs
        if self._shape(first) != self._shape(second):
            raise ModelError("The network adds tensors of different shapes, which cannot be converted.")
        _refuse(operator.options.number(0, Int8Flags), 0, "activation")
        self._emit(operator, "Add", [self._names[first], self._names[second]])

    def _multiply(self, operator: _Operator) -> None:
        """A picture and one number for each of its channels, or two pictures."""
        first, second = operator.inputs
        _refuse(operator.options.number(0, Int8Flags), 0, "activation")
        if self._shape(first) != self._shape(second) and self._shape(second) != (1, 1, 1, self._shape(first)[3]):
            raise ModelError("The network multiplies tensors of different shapes, which cannot be converted.")
        self._emit(operator, "Mul", [self._names[first], self._names[second]])

    def _same(self, operator: _Operator, kind: str) -> None:
        """What takes one tensor and has no options."""
        self._emit(operator, kind, [self._names[operator.inputs[0]]])

    def _pad(self, operator: _Operator) -> None:
        """Zeros round a picture and behind its channels; the second input has (before, after) per NHWC dimension."""
        picture, widths_at = operator.inputs
        widths = self._values(widths_at)[list(_NHWC_TO_NCHW)].T.ravel()
        self._emit(operator, "Pad", [self._names[picture], self._constant(widths_at, widths.astype(np.int64))])

    def _reshape(self, operator: _Operator) -> None:
        """The numbers keep their NHWC order."""
        source, (output,) = operator.inputs[0], operator.outputs
        name = self._names[source]
        if len(self._shape(source)) == 4:
            name = self._transposed(name, f"{output}_nhwc", _NCHW_TO_NHWC)
        if len(self._shape(output)) == 4:
            raise ModelError("The network reshapes to a picture, which cannot be converted.")
        shape = self._graph.constant(f"{output}_shape", np.array(self._shape(output), np.int64))
        self._emit(operator, "Reshape", [name, shape])


def _bilinear(before: int, after: int) -> NDArray[np.float32]:
    """(after, before): weights that resize a row of pixels, whose centres are at halves; its ends go on."""
    at = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.floor(at).astype(int)
    share = at - low
    weights = np.zeros((after, before), np.float32)
    rows = np.arange(after)
    weights[rows, low] += 1 - share
    weights[rows, np.minimum(low + 1, before - 1)] += share
    return weights


def _refuse(found: int, known: int, what: str) -> None:
    if found != known:
        raise ModelError(f"The network uses a kind of {what} that cannot be converted (number {found}).")
