from lit_vlm.throughput import Throughput


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tells_work_from_waiting_and_leaves_pauses_out() -> None:
    clock = Clock()
    pace = Throughput(clock)
    pace.begin_batch()
    clock.now = 3.0  # 3 s of work
    pace.count(samples=8, tokens=50)
    pace.end_batch()
    clock.now = 4.0  # 1 s of waiting
    pace.begin_batch()
    clock.now = 6.0  # 2 s of work
    pace.count(samples=8, tokens=70)
    pace.end_batch()
    pace.pause()
    clock.now = 100.0  # validation
    pace.begin_batch()
    clock.now = 104.0  # 4 s of work, read inside the batch
    assert pace.read() == (16.0, 120.0, 10.0, 1.0)


def test_a_reading_begins_anew_in_the_middle_of_a_batch() -> None:
    clock = Clock()
    pace = Throughput(clock)
    pace.begin_batch()
    clock.now = 2.0
    pace.read()
    clock.now = 5.0
    pace.end_batch()
    clock.now = 6.0
    pace.begin_batch()
    assert pace.read() == (0.0, 0.0, 4.0, 1.0)
