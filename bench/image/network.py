"""The same models and pictures as one would write them into a server by hand."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

TOP = 5


class Classifier:
    """The model in a folder; a transformers one with its own processor, or an exported program with its package."""

    def __init__(self, folder: Path) -> None:
        self._program = (folder / "modelyard.yaml").is_file()
        if self._program:
            self._model: Any = torch.export.load(folder / "model.pt2").module()
            self.labels = list(yaml.safe_load((folder / "modelyard.yaml").read_text())["labels"])
            return
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self._processor = AutoImageProcessor.from_pretrained(folder)
        self._model = AutoModelForImageClassification.from_pretrained(folder).eval()
        names = json.loads((folder / "config.json").read_text())["id2label"]
        self.labels = [names[str(number)] for number in range(len(names))]

    def read(self, raw: bytes) -> torch.Tensor:
        """One picture, (3, 224, 224)."""
        picture = Image.open(io.BytesIO(raw)).convert("RGB")
        if not self._program:
            values: torch.Tensor = self._processor(images=picture, return_tensors="pt")["pixel_values"][0]
            return values
        scale = 256 / min(picture.size)
        picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BICUBIC)
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
        pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
        return torch.from_numpy(((pixels - 127) / 128).transpose(2, 0, 1).copy())

    def classify(self, pictures: torch.Tensor) -> list[list[dict[str, Any]]]:
        """The likeliest labels of each of (pictures, 3, 224, 224)."""
        with torch.inference_mode():
            logits = self._model(pictures) if self._program else self._model(pictures).logits
            scores, places = logits.softmax(1).topk(TOP)
        rows = zip(scores.tolist(), places.tolist(), strict=True)
        return [[{"label": self.labels[at], "score": score} for score, at in zip(*row, strict=True)] for row in rows]
