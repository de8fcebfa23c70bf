"""Whisper's features of sound of any length, without ever holding more than a piece of its samples.

They are those of transformers' WhisperFeatureExtractor (`_torch_extract_fbank_features`) of the whole sound at once:
frames of 10 ms, reflected at both ends, on a scale whose floor is 8 under the logarithm of the loudest.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

FLOOR = 1e-10


class LogMel:
    """Computes features as the extractor of a model's folder says."""

    def __init__(self, extractor: Any) -> None:
        self.rate: int = extractor.sampling_rate
        self.bands: int = extractor.feature_size
        self._size: int = extractor.n_fft
        self._hop: int = extractor.hop_length
        self._window = torch.hann_window(self._size)
        self._filters = torch.from_numpy(np.asarray(extractor.mel_filters)).float().T.contiguous()

    def __call__(self, pieces: Iterable[Any]) -> torch.Tensor:
        """Float32 (bands, frames) of the float32 samples of all `pieces` together."""
        half = self._size // 2
        spectra: list[torch.Tensor] = []
        kept = np.zeros(0, dtype=np.float32)
        samples = 0
        begun = False
        for piece in pieces:
            samples += len(piece)
            kept = np.concatenate([kept, piece])
            if not begun and len(kept) > half:
                kept = np.concatenate([kept[half:0:-1], kept])
                begun = True
            if begun and len(kept) > 2 * self._size:
                whole = (len(kept) - self._size) // self._hop
                spectra.append(self._spectrum(kept, whole))
                kept = kept[whole * self._hop :]
        kept = np.concatenate([kept, kept[-2 : -half - 2 : -1]])
        frames = samples // self._hop
        spectra.append(self._spectrum(kept, frames - sum(part.shape[1] for part in spectra)))
        loud = torch.cat(spectra, dim=1)
        return torch.maximum(loud, loud.max() - 8.0).add_(4.0).div_(4.0)

    def _spectrum(self, samples: Any, frames: int) -> torch.Tensor:
        """The logarithms of the bands' power in so many frames, the first of which begins with the samples."""
        if frames == 0:
            return torch.empty(self.bands, 0)
        part = torch.from_numpy(samples[: (frames - 1) * self._hop + self._size].copy())
        power = (
            torch.stft(part, self._size, self._hop, window=self._window, center=False, return_complex=True).abs() ** 2
        )
        return (self._filters @ power.contiguous()).clamp_(min=FLOOR).log10_()
