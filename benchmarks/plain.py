"""What one writes without us: ONNX Runtime on one picture at a time, NumPy before and after it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from engines.manifest import find
from engines.zoo import locate


class PlainDetector:
    """A YOLOX of ONNX; called with OpenCV's BGR picture, it gives what goes into JSON."""

    def __init__(self, model: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(locate(find(model)), options, providers=["CPUExecutionProvider"])
        self._side = self._session.get_inputs()[0].shape[2]
        self._labels = find(model).labels
        grids, strides = zip(*(_grid(self._side // s, s) for s in (8, 16, 32)), strict=True)
        self._grid, self._stride = np.concatenate(grids), np.concatenate(strides)

    def __call__(self, image: Any) -> list[dict[str, Any]]:
        ratio = min(self._side / image.shape[0], self._side / image.shape[1])
        output = self.infer(self._prepared(image, ratio))
        centre = (output[0, :, :2] + self._grid) * self._stride
        size = np.exp(output[0, :, 2:4]) * self._stride
        scores = output[0, :, 4:5] * output[0, :, 5:]
        classes, best = scores.argmax(1), scores.max(1)
        boxes = np.concatenate([centre - size / 2, size], 1) / ratio
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), best.tolist(), classes.tolist(), 0.3, 0.45)
        return [
            {"box": boxes[i].tolist(), "label": self._labels[classes[i]], "confidence": float(best[i])}
            for i in list(kept)
        ]

    def infer(self, feed: Any) -> Any:
        return self._session.run(None, {"images": feed})[0]

    def _prepared(self, image: Any, ratio: float) -> Any:
        small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
        padded = np.full((self._side, self._side, 3), 114, np.uint8)
        padded[: small.shape[0], : small.shape[1]] = small
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)


class RememberingDetector(PlainDetector):
    """One whose engine answers from memory after the first time."""

    _answer: Any = None

    def infer(self, feed: Any) -> Any:
        if self._answer is None:
            self._answer = super().infer(feed)
        return self._answer


def _grid(cells: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    ys, xs = np.mgrid[:cells, :cells]
    return np.stack([xs.ravel(), ys.ravel()], 1), np.full((cells * cells, 1), stride)
