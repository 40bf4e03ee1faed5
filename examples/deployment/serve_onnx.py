"""
Answer with the file that export_onnx wrote. Needs onnxruntime, NumPy and Pillow; no PyTorch.

    python examples/deployment/serve_onnx.py model.onnx IMAGE [IMAGE ...]
    python examples/deployment/serve_onnx.py model.onnx --port 8000
    curl --data-binary @image.png localhost:8000

Each image gives one line of JSON: label, and where the file holds detectors, their scores and
which of them raised an alarm; where it holds a Triage, the verdict, the probability of each kind
and p-values. An image that cannot be read gives a line with its error. The model gets images in
[0, 1], scaled to cover the size that the file names, and the middle of that. Images are decoded by
the rules of pytorch_ood_viyog.images, which needs PyTorch: EXIF turns them, 16 bit is scaled, what
is transparent is white.
"""

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def eight_bit(image: Image.Image) -> Image.Image:
    """The image in 8 bit, as the detectors saw it in their fit."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        top = 1 if image.mode == "F" else 65535
        values = np.asarray(image, np.float64)
        if not (values.min() >= 0 and values.max() <= top):
            raise ValueError(f"values must be from 0 to {top}")
        return Image.fromarray((values * 255 / top).round().astype(np.uint8))
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image


class Answerer:
    """A model with its detectors, or a Triage, in ONNX Runtime. Threads may share it."""

    def __init__(self, path: Path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        texts = self.session.get_modelmeta().custom_metadata_map
        self.metadata = {name: json.loads(text) for name, text in texts.items()}
        self.outputs = [output.name for output in self.session.get_outputs()]
        _, self.channels, height, width = self.session.get_inputs()[0].shape
        self.size = (width, height)

    def answers(self, pixels: np.ndarray) -> list[dict[str, Any]]:
        """:param pixels: float32 of shape (B, C, H, W) in [0, 1]"""
        found = self.session.run(None, {"input": pixels})
        table = dict(zip(self.outputs, found, strict=True))
        return [self._answer({n: y[i] for n, y in table.items()}) for i in range(len(pixels))]

    def answer(self, source: Path | BytesIO) -> dict[str, Any]:
        try:
            with Image.open(source) as image:
                pixels = self._pixels(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return self.answers(pixels[None])[0]

    def _pixels(self, image: Image.Image) -> np.ndarray:
        image = eight_bit(image).convert("L" if self.channels == 1 else "RGB")
        scale = max(wanted / side for wanted, side in zip(self.size, image.size, strict=True))
        width, height = (round(scale * side) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - self.size[0]) // 2, (height - self.size[1]) // 2
        image = image.crop((left, top, left + self.size[0], top + self.size[1]))
        pixels = np.asarray(image, np.float32) / 255
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def _answer(self, row: dict[str, np.ndarray]) -> dict[str, Any]:
        label = int(row.pop("logits").argmax())
        names = self.metadata.get("labels")
        answer: dict[str, Any] = {"label": label if names is None else names[label]}
        if "verdict" in row:
            verdicts = {value: name for name, value in self.metadata["verdicts"].items()}
            answer["verdict"] = verdicts[int(row.pop("verdict"))]
            odds = row.pop("log_odds")
            shares = np.exp(odds - odds.max())
            shares = (shares / shares.sum()).round(6).tolist()
            answer["posterior"] = dict(zip(self.metadata["log_odds"], shares, strict=True))
        else:
            limits = self.metadata["thresholds"]
            alarms = [name for name, limit in limits.items() if not row[name] <= limit]
            answer["alarms"] = alarms
        return answer | {name: round(float(value), 6) for name, value in row.items()}


def handler(answerer: Answerer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answerer.answer(BytesIO(body))
            self.send_response(400 if "error" in answer else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("model", type=Path, help="file that export_onnx wrote")
    parser.add_argument("images", type=Path, nargs="*", help="image files")
    parser.add_argument("--port", type=int, help="answer POST requests here; 0 takes a free one")
    options = parser.parse_args()
    if bool(options.images) == (options.port is not None):
        parser.error("give images, or --port")
    answerer = Answerer(options.model)
    for file in options.images:
        print(json.dumps({"file": str(file)} | answerer.answer(file)))
    if options.port is not None:
        server = ThreadingHTTPServer(("localhost", options.port), handler(answerer))
        print(f"http://localhost:{server.server_port}", file=sys.stderr, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
