"""SIGKILL in the middle of a training run: it goes on from its checkpoint, to the weights of an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import torch

from embedder.tuning.checkpoints import FILE
from embedder.tuning.config import Lora, Stage, TuningConfig
from embedder.tuning.trainer import Trainer
from tests.support.tuning_toys import student_of, toy_examples

ROOT = Path(__file__).parents[2]
CONFIG = TuningConfig(lora=Lora(rank=2), batch=8, steps=40, lr=1e-3, checkpoint_every=1)
PROGRAM = """
import sys
from pathlib import Path
from tests.crash.test_kill_during_training import CONFIG, stages
from tests.support.tuning_toys import student_of
from embedder.tuning.trainer import Trainer

folder = Path(sys.argv[1])
student = student_of(folder / "model", "bert", CONFIG)


def tell(report):
    print(report.step, flush=True)
    if report.step == 20:
        sys.stdin.readline()  # so that it cannot end before it is killed


Trainer(student, CONFIG, stages(), folder / "killed").run(tell)
"""


def stages() -> list[Stage]:
    return [Stage(name="toy", examples=toy_examples(40, negatives=1))]


def test_a_run_that_was_killed_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = student_of(tmp_path / "model", "bert", CONFIG)
    Trainer(whole, CONFIG, stages()).run()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        steps = [next(process.stdout) for _ in range(7)]  # checkpoints are being written at every step
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert steps[-1].strip() == "7"
    assert (tmp_path / "killed" / FILE).exists()
    student = student_of(tmp_path / "model", "bert", CONFIG)
    seen: list[int] = []
    log = Trainer(student, CONFIG, stages(), tmp_path / "killed").run(lambda report: seen.append(report.step))
    assert 8 <= seen[0] <= 21
    assert seen[-1] == 40
    assert [report.step for report in log.reports] == list(range(1, 41))
    for name, parameter in whole.parts.trainable().items():
        assert torch.equal(parameter, student.parts.trainable()[name])
