"""A plain server: FastAPI, each picture in a thread of its pool: `python -m bench.image.fastapi_server PORT FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from bench.image.network import Classifier
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

classifier = Classifier(Path(sys.argv[2]))
app = FastAPI()


def _classify(raw: bytes) -> list[dict[str, Any]]:
    return classifier.classify(torch.stack([classifier.read(raw)]))[0]


@app.get("/health")
def health() -> str:
    return "ok"


@app.post("/classify")
async def classify(request: Request) -> list[dict[str, Any]]:
    return await run_in_threadpool(_classify, await request.body())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
