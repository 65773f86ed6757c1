import os
import signal
import subprocess
import sys
import time

import pytest

from features.forked import forked

# Says which process works for it, and keeps that one waiting for more.
COMMAND = """
import os, time
from features.forked import forked
with forked(1) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_commands_processes_end():
    command = [sys.executable, "-c", COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert is_there(worker)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_there(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(worker)


def test_a_process_that_was_killed_is_told():
    with pytest.raises(OSError, match="was killed, as where memory runs out"), forked(1) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()
