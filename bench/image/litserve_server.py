"""LitServe with its dynamic batching, as its guides write it: `python -m bench.image.litserve_server PORT FOLDER`."""

import base64
import sys
from pathlib import Path
from typing import Any

import litserve
import torch
from bench.image.network import Classifier

MAX_BATCH = 8
BATCH_TIMEOUT_S = 0.005


class PictureAPI(litserve.LitAPI):  # type: ignore[misc]
    """Pictures come in base64: LitServe reads JSON and forms."""

    def setup(self, device: str) -> None:
        self._classifier = Classifier(Path(sys.argv[2]))

    def decode_request(self, request: dict[str, str]) -> torch.Tensor:
        return self._classifier.read(base64.b64decode(request["image"]))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor) -> list[list[dict[str, Any]]]:
        return self._classifier.classify(x)

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


if __name__ == "__main__":
    api = PictureAPI(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
