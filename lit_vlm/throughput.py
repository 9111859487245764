"""How fast training is, and what it waits for."""

import time
from collections.abc import Callable


class Throughput:
    """Count samples, tokens and waiting time of the batches since the last reading.

    Time outside batches, such as validation, does not count.

    Args:
        clock: returns seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began: float | None = None
        self._ended: float | None = None
        self._reset()

    def begin_batch(self) -> None:
        """Mark that a batch has arrived."""
        self._began = self._clock()
        if self._ended is not None:
            self._waited += self._began - self._ended
            self._ended = None

    def count(self, samples: int, tokens: int) -> None:
        """Add a batch's samples and its tokens, padding not counted."""
        self._samples += samples
        self._tokens += tokens

    def end_batch(self) -> None:
        """Mark that a batch is done and the next is waited for."""
        self._ended = self._clock()
        if self._began is not None:
            self._worked += self._ended - self._began
            self._began = None

    def pause(self) -> None:
        """Mark that something else begins, which is no waiting for data."""
        self._ended = None

    def read(self) -> tuple[float, float, float, float]:
        """Return samples, tokens, seconds and seconds of waiting since the last reading."""
        now = self._clock()
        if self._began is not None:
            self._worked += now - self._began
            self._began = now
        reading = (
            float(self._samples),
            float(self._tokens),
            self._worked + self._waited,
            self._waited,
        )
        self._reset()
        return reading

    def _reset(self) -> None:
        self._samples = self._tokens = 0
        self._worked = self._waited = 0.0
