import os
import select
import signal
import subprocess
import sys

import pytest

from features.forked import forked

# Has a process work for it, and keeps that one waiting for more.
COMMAND = """
import os, time
from features.forked import forked
with forked(1) as pool:
    pool.submit(os.write, 1, b"at work").result()
    time.sleep(60)
"""


def test_a_killed_commands_processes_end():
    command = [sys.executable, "-c", COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        output = parent.stdout.fileno()
        assert os.read(output, 100) == b"at work"
        parent.kill()
        # The worker writes there too: it ends with the last of those who do.
        assert select.select([output], [], [], 60)[0]
        assert os.read(output, 100) == b""


def test_a_process_that_was_killed_is_told():
    with pytest.raises(OSError, match="was killed, as where memory runs out"), forked(1) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()
