"""The process beside the training: it is there for as long as the training is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAINING = """
import multiprocessing, time
from pggan.config.schema import Config
from pggan.run.preparing import compile_ahead

class Endless:  # jobs
    def __iter__(self):
        print("begun", flush=True)
        time.sleep(1000)
        return iter(())

if __name__ == "__main__":
    given = Config(), Endless(), "cpu", 1
    child = multiprocessing.get_context("spawn").Process(target=compile_ahead, args=given, daemon=True)
    child.start()
    print(child.pid, flush=True)
    child.join()
"""


def test_it_ends_when_the_training_is_killed(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    training = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=where)
    with training:
        child = int(training.stdout.readline())
        assert training.stdout.readline() == "begun\n"
        training.kill()
        try:
            training.communicate(timeout=30)  # until nobody is left who could write
        except subprocess.TimeoutExpired:
            os.kill(child, signal.SIGKILL)
            raise
