"""Engines: the network on a device, fed padded batches of tokens. `model.scorer` makes the batches.

On a CPU OpenVINO runs the network where it is installed: it uses the processor's 8-bit and bfloat16 instructions better
than torch does. 8-bit matrices lose nothing, since the weights are rounded to that grid on loading (`weight_bits`); the
values they are multiplied with are rounded in groups as they come, so nothing needs to be calibrated.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

if TYPE_CHECKING:
    from model.network import Network

_QUANTISED_GROUP = "128"  # values that share a scale; larger is faster and rounds more


class Scores(NamedTuple):
    """Probabilities of n texts, in the order of the texts."""

    sentiment: NDArray[np.float32]  # (n, sentiment labels), columns as `Scorer.sentiment_labels`
    topic: NDArray[np.float32]  # (n, topic labels), columns as `Scorer.topic_labels`

    @property
    def finite(self) -> bool:
        """Whether each probability is a number."""
        return bool(np.isfinite(self.sentiment).all() and np.isfinite(self.topic).all())


class Engine(Protocol):
    """One lane: runs one batch at a time. Lanes of the same device may share their weights."""

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Scores:
        """Probabilities of a padded batch (n, t); raises `OutOfMemory` when it does not fit."""


class OutOfMemory(Exception):  # noqa: N818 - named as torch names it
    """The batch does not fit into the device's memory."""


class TorchEngine:
    """torch on a GPU or a CPU."""

    def __init__(self, network: Network, device: str, *, bfloat16: bool) -> None:
        import torch

        self._network = network
        self._device = device
        torch.nn.Module.to(network, device)
        if bfloat16:  # the heads stay in float32
            torch.nn.Module.to(network.encoder, torch.bfloat16)

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Scores:
        """See `Engine`."""
        import torch

        try:
            with torch.inference_mode():
                ids, mask = (torch.from_numpy(part).to(self._device) for part in (input_ids, attention_mask))
                sentiment, topic = self._network.probabilities(self._network(ids, mask))
                return Scores(sentiment.cpu().numpy(), topic.cpu().numpy())
        except (torch.OutOfMemoryError, MemoryError) as exc:
            if self._device.startswith("cuda"):
                torch.cuda.empty_cache()
            raise OutOfMemory(self._device) from exc


class OpenVinoEngine:
    """One stream of a compiled OpenVINO model."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Scores:
        """See `Engine`."""
        try:
            self._request.infer([input_ids, attention_mask], share_inputs=True)
        except MemoryError as exc:
            raise OutOfMemory("cpu") from exc
        sentiment, topic = (self._request.get_output_tensor(i).data.copy() for i in range(2))
        return Scores(sentiment, topic)


def openvino_engines(network: Network, precision: str, lanes: int, threads: int) -> list[Engine]:
    """`lanes` streams over one compiled model; `precision` is `float32`, `bfloat16` or `int8`."""
    import openvino

    from model.device import has_bfloat16

    model = _openvino_model(network)
    # What is not in 8 bits is in bfloat16 where that is native, unless float32 was asked for.
    bfloat16 = precision == "bfloat16" or (precision == "int8" and has_bfloat16("cpu"))
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "NUM_STREAMS": str(lanes),
        "INFERENCE_NUM_THREADS": str(threads or len(os.sched_getaffinity(0))),
    }
    if precision == "int8":
        _store_in_8_bits(model)
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _QUANTISED_GROUP
    try:
        compiled = openvino.Core().compile_model(model, "CPU", options)
    except RuntimeError as exc:
        raise ModelError(f"OpenVINO cannot run the network in {precision}: {exc}; set backend to torch") from exc
    return [OpenVinoEngine(compiled) for _ in range(lanes)]


def cpu_precision() -> str:
    """The fastest precision that the processor computes natively."""
    import torch

    from model.device import has_bfloat16

    found = torch.cpu.get_capabilities()
    if any(found.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return "int8"
    return "bfloat16" if has_bfloat16("cpu") else "float32"


def _openvino_model(network: Network) -> Any:
    """The network as an OpenVINO model, by its frontend: `openvino.convert_model` would report its use to its maker."""
    import warnings

    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.network.probabilities(self.network(input_ids, attention_mask))

    example = torch.ones(2, 16, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, on shapes that the network does not branch on
        decoder = TorchScriptPythonDecoder(Served().eval(), example_input=(example, example))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    for given in model.inputs:
        given.get_node().set_partial_shape(_any_shape())
    model.validate_nodes_and_infer_types()
    return model


def _any_shape() -> Any:
    from openvino import PartialShape

    return PartialShape([-1, -1])


def _store_in_8_bits(model: Any) -> None:
    """Replace each matrix by 8-bit values and a scale a row, which the CPU's kernels multiply as they are."""
    import openvino
    from openvino import opset13 as ops

    for node in model.get_ops():
        if node.get_type_name() != "MatMul" or not node.get_attributes()["transpose_b"]:
            continue
        source = node.input(1).get_source_output()
        matrix = source.get_node()
        if matrix.get_type_name() != "Constant" or len(matrix.shape) != 2:
            continue
        values = np.asarray(matrix.data, np.float32)  # (rows, columns)
        if len(values) < 64:
            continue  # the heads stay as they are
        scale = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12) / 127
        stored = ops.constant(np.round(values / scale).astype(np.int8), openvino.Type.i8)
        restored = ops.multiply(ops.convert(stored, "f32"), ops.constant(scale.astype(np.float32)))
        node.input(1).replace_source_output(restored.output(0))
    model.validate_nodes_and_infer_types()
