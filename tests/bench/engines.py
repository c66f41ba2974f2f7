"""`make bench-model`: `Scorer` against what a user would pick instead, on the same texts, the same weights, in one run.

Each rival gets its own best batch of those tried, padded to its longest text in the order of arrival, as its
documentation shows. The last line printed is JSON. Caveats: README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from deploy import settings
from model.encoder import encoder_folder, load_tokenizer
from model.identity import weights_folder
from model.network import Network
from model.scorer import Scorer
from model.text import clean
from model.weights import unpack
from tests.bench.feed import texts

Run = Callable[[Sequence[str]], list[tuple[int, int]]]  # texts to (sentiment, topic) label places
_BATCHES = (8, 32, 128)


def pipeline_rival(network: Network, folder: Path) -> dict[str, Run]:
    """`transformers.pipeline`, at its default of one text at a time and in batches; it has one head only."""
    from transformers import AutoTokenizer, BertForSequenceClassification, logging, pipeline

    logging.set_verbosity_error()
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=len(network.config.sentiment_labels))
    classify = pipeline(
        "text-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        device=-1,
        dtype=torch.float32,
    )
    return {
        f"transformers pipeline, batch {size}": lambda given, size=size: [
            (0, 0) for _ in classify(list(given), batch_size=size)
        ]
        for size in (1, *_BATCHES)
    }


def onnx_rival(network: Network, tokenizer: Any, folder: Path) -> dict[str, Run]:
    """ONNX Runtime, 8 bits by its dynamic quantisation, per channel."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    source, target = folder / "f32.onnx", folder / "int8.onnx"
    ids = torch.ones(2, 16, dtype=torch.int64)
    axes = {name: {0: "n", 1: "t"} for name in ("ids", "mask")}
    torch.onnx.export(
        _Served(network), (ids, ids), source, input_names=["ids", "mask"], output_names=["sentiment", "topic"],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    quantize_dynamic(source, target, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(target, options, providers=["CPUExecutionProvider"])
    return _batched("ONNX Runtime int8", tokenizer, lambda ids, mask: session.run(None, {"ids": ids, "mask": mask}))


def openvino_rival(network: Network, tokenizer: Any) -> dict[str, Run]:
    """OpenVINO, 8 bits by NNCF's post-training quantisation on 300 texts, two streams."""
    import nncf
    import openvino

    from model.engine import _openvino_model

    given = [_pad([tokenizer.encode(text).ids]) for text in texts(300)]
    model = nncf.quantize(
        _openvino_model(network), nncf.Dataset(given), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(given)
    )
    compiled = openvino.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})

    def queue(size: int) -> Run:
        def run(many: Sequence[str]) -> list[tuple[int, int]]:
            found: dict[int, list[tuple[int, int]]] = {}

            def done(request: Any, place: int) -> None:
                found[place] = _places(*(request.get_output_tensor(i).data for i in range(2)))

            jobs = openvino.AsyncInferQueue(compiled)
            jobs.set_callback(done)
            for at in range(0, len(many), size):
                jobs.start_async(_pad([e.ids for e in tokenizer.encode_batch_fast(list(many[at : at + size]))]), at)
            jobs.wait_all()
            return [places for at in sorted(found) for places in found[at]]

        return run

    return {f"OpenVINO int8 static, batch {size}": queue(size) for size in _BATCHES}


class _Served(torch.nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
        return self.network.probabilities(self.network(ids, mask))


def _batched(name: str, tokenizer: Any, infer: Callable[..., Any]) -> dict[str, Run]:
    def of(size: int) -> Run:
        def run(many: Sequence[str]) -> list[tuple[int, int]]:
            found: list[tuple[int, int]] = []
            for at in range(0, len(many), size):
                encodings = tokenizer.encode_batch_fast(list(many[at : at + size]))
                found += _places(*infer(*_pad([e.ids for e in encodings])))
            return found

        return run

    return {f"{name}, batch {size}": of(size) for size in _BATCHES}


def _pad(ids: list[list[int]]) -> tuple[Any, Any]:
    longest = max(map(len, ids))
    padded = np.zeros((len(ids), longest), np.int64)
    mask = np.zeros_like(padded)
    for line, tokens in enumerate(ids):
        padded[line, : len(tokens)] = tokens
        mask[line, : len(tokens)] = 1
    return padded, mask


def _places(sentiment: Any, topic: Any) -> list[tuple[int, int]]:
    return list(zip(sentiment.argmax(1).tolist(), topic.argmax(1).tolist(), strict=True))


def _scorer_run(scorer: Scorer) -> Run:
    return lambda given: _places(*scorer.score(given))


def _peak_gflops() -> float:
    """The best of torch's matrix products here, in 10^9 operations a second: float32 and, where native, bfloat16."""
    best = 0.0
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.randn(2048, 2048).to(kind), torch.randn(2048, 2048).to(kind)
        for _ in range(2):
            started = time.perf_counter()
            for _ in range(5):
                left @ right
            best = max(best, 5 * 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def main() -> None:
    """Run all rows, print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5_000, help="texts (default %(default)s)")
    parser.add_argument("--slow", type=int, default=1_000, help="texts for the pipeline (default %(default)s)")
    parser.add_argument("--memory", type=int, default=0, help="texts for the memory row; 0 leaves it out")
    options = parser.parse_args()
    wanted = settings.load().model
    folder = encoder_folder(wanted.encoder)
    network, version = unpack(weights_folder(wanted.model_copy(update={"device": "cpu"})), wanted.encoder)
    tokenizer = load_tokenizer(folder, network.config.max_tokens)
    given = [clean(text) for text in texts(options.items)]
    tokens = sum(len(e.ids) for e in tokenizer.encode_batch_fast(given)) / len(given)
    encoder = sum(p.numel() for n, p in network.encoder.named_parameters() if "embeddings" not in n)
    console, peak = Console(stderr=True), _peak_gflops()

    exact = wanted.model_copy(update={"backend": "torch", "precision": "float32"})
    truth = _scorer_run(Scorer.load(exact))(given)
    rows: dict[str, dict[str, float]] = {}

    def measure(name: str, run: Run, count: int) -> None:
        console.print(f"[dim]{name}: {count:,} texts[/]")
        run(given[:64])
        started = time.perf_counter()
        found = run(given[:count])
        rate = count / (time.perf_counter() - started)
        rows[name] = {"items_s": round(rate), "tokens_s": round(rate * tokens)}
        rows[name]["peak_share"] = round(rate * tokens * 2 * encoder / 1e9 / peak, 2)
        if "pipeline" not in name:
            for head in (0, 1):
                same = np.mean([a[head] == b[head] for a, b in zip(found, truth, strict=False)])
                rows[name][("same_sentiment", "same_topic")[head]] = round(float(same), 4)

    with tempfile.TemporaryDirectory(prefix="newsquake-bench-") as work:
        for name, run in pipeline_rival(network, folder).items():
            measure(name, run, options.slow)
        for name, run in onnx_rival(network, tokenizer, Path(work)).items():
            measure(name, run, options.items)
        for name, run in openvino_rival(network, tokenizer).items():
            measure(name, run, options.items)
    for precision in ("float32", "bfloat16"):
        scorer = Scorer.load(wanted.model_copy(update={"precision": precision}))
        measure(f"Scorer, {precision}", _scorer_run(scorer), options.items)
    scorer = Scorer.load(wanted)
    measure("Scorer", _scorer_run(scorer), options.items)
    memory = _memory_mb(scorer, options.memory) if options.memory else {}

    table = Table(title=f"newsquake bench-model, {version}", title_justify="left")
    for column in ("row", "texts/s", "tokens/s", "share of peak", "same sentiment", "same topic"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for name, row in rows.items():
        labels = [str(row.get(key, "")) for key in ("same_sentiment", "same_topic")]
        table.add_row(name, f"{row['items_s']:,}", f"{row['tokens_s']:,}", f"{row['peak_share']:.2f}", *labels)
    Console().print(table)
    own = rows["Scorer"]["items_s"]

    def best(kind: str) -> float:
        return max(row["items_s"] for name, row in rows.items() if name.startswith(kind))

    print(
        json.dumps(
            {
                "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
                "peak_gflops": round(peak),
                "rows": rows,
                "to_pipeline_default": round(own / rows["transformers pipeline, batch 1"]["items_s"], 1),
                "to_pipeline_best": round(own / best("transformers"), 1),
                "to_onnx_int8_best": round(own / best("ONNX"), 2),
                "to_openvino_int8_best": round(own / best("OpenVINO"), 2),
                "memory_mb": memory,
            }
        )
    )


def _memory_mb(scorer: Scorer, count: int) -> dict[str, int]:
    """Resident memory after a tenth of `count` different texts and after all of them."""
    found = {}
    for at in range(0, count, 1_000):
        scorer.score([f"{text} {at}" for text in texts(1_000)])
        if at + 1_000 in (count // 10, count):
            found[str(at + 1_000)] = psutil.Process().memory_info().rss // 2**20
    return found


if __name__ == "__main__":
    main()
