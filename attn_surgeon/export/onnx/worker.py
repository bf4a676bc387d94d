"""The subprocess that runs ONNX Runtime, so that a graph that crashes the runtime does not crash the main process.

It reads pickled requests from standard input and writes pickled answers to standard output; both ends are this package.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from attn_surgeon.memory import limit_memory

_POLL_INTERVAL = 0.5  # seconds


def main() -> None:
    """Answer requests for one session until the input ends."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print to stderr, so that the answers on stdout stay intact
    sessions: list[Any] = []
    for request in _requests(sys.stdin.buffer):
        try:
            answer: tuple[str, Any] = ("done", _SERVICES[request[0]](sessions, *request[1:]))
        except (ImportError, AttributeError) as error:  # not installed, or two packages that overwrote each other
            answer = ("missing", f"ONNX Runtime cannot be used: {type(error).__name__}: {error}")
        except Exception as error:
            answer = ("failed", f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()


def _end_with_parent(parent: int) -> None:
    """Exit, even during a computation, once the parent process has ended."""
    while os.getppid() == parent:
        time.sleep(_POLL_INTERVAL)
    os._exit(1)


def _requests(stream: BinaryIO) -> Any:
    while True:
        try:
            yield pickle.load(stream)
        except EOFError:
            return


def _open(sessions: list[Any], path: str, providers: list[str], threads: int, memory: int | None) -> list[str]:
    import onnxruntime

    if memory is not None:
        limit_memory(memory)

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    sessions[:] = [session]
    available: list[str] = session.get_providers()
    return available


def _run(sessions: list[Any], feeds: dict[str, Any]) -> list[Any]:
    outputs: list[Any] = sessions[0].run(None, feeds)
    return outputs


def _time(sessions: list[Any], feeds: dict[str, Any]) -> float:
    start = time.perf_counter()
    sessions[0].run(None, feeds)
    return time.perf_counter() - start


def _quantise(
    sessions: list[Any], files: Sequence[str], feeds: Sequence[dict[str, Any]], excluded: list[str], biases: bool
) -> None:
    """Write an int8 file, the second, of another by static quantisation, calibrated by running it on the feeds."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        *files,
        _Reader(iter(feeds)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": biases},
    )


class _Reader:
    """A `CalibrationDataReader` of feeds."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feeds; None at the end."""
        return next(self.feeds, None)


_SERVICES: dict[str, Callable[..., Any]] = {"open": _open, "run": _run, "time": _time, "quantise": _quantise}

if __name__ == "__main__":
    main()
