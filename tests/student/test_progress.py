from __future__ import annotations

from medslm.student.progress import Progress


def test_long_work_says_how_far_it_is_and_short_work_nothing(caplog):
    caplog.set_level("INFO")
    now = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    progress = Progress("scoring", 40, "prompts", clock=lambda: next(now))

    progress.add(10)
    assert caplog.messages == []
    progress.add(10)
    progress.add(10)
    progress.add(10)

    assert caplog.messages == [
        "scoring: 20 of 40 prompts, 1.00/s, about 20 s left",
        "scoring: 40 of 40 prompts, 1.00/s, about 0 s left",
    ]
