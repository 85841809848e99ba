"""Memory does not grow with the steps, though every batch has another length."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: a peak cannot be taken back. Its last 72 steps keep their graphs, as losses that
# were never detached would.
TRAINING = '''
import json, random, sys
from pathlib import Path

import torch

from medslm.student.lora import add_lora
from medslm.student.rows import Labelled
from medslm.student.tuning import Cell
from tests.student.bodies import tiny_loaded

torch.set_num_threads(1)
rng = random.Random(0)
examples = [Labelled([rng.randint(3, 200)] * rng.randint(16, 100), i % 3) for i in range(24)]
loaded = tiny_loaded("llama")
torch.manual_seed(0)
model = add_lora(loaded, r=4, alpha=8, dropout=0.1, targets="all-linear", layers="all")
knobs = {"lr": 1e-3, "warmup": 0.1, "weight_decay": 0.0, "clip": 1.0, "batch_size": 4, "seed": 0}
peaks = []


def peak():
    """Return VmHWM in kB; a child's ru_maxrss begins at what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


class Watch:
    def begin(self, *_, **__): pass
    def epoch(self, *_, **__): pass
    def step(self, *_, **__):
        peaks.append(peak())


def train(epochs, checkpoints, keep):
    cell = Cell(loaded, model, **knobs, epochs=epochs, reuse_frozen=False)
    cell.feed, loss = Watch(), cell._loss
    if keep is not None:
        cell._loss = lambda *given: keep.append(loss(*given)) or keep[-1]
    cell.train(examples, examples[:5], checkpoints=Path(checkpoints), every_s=60)


train(20, sys.argv[1] + "/1", None)
train(12, sys.argv[1] + "/2", [])
print(json.dumps(peaks))
'''


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_memory_is_flat_from_step_50_to_120_and_a_leak_would_show(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert len(peaks) == 192
    flat = (peaks[119] - peaks[49]) / peaks[49]
    leaking = (peaks[191] - peaks[119]) / peaks[119]
    assert flat < 0.01
    assert leaking > 0.03
