"""A script that becomes the program in its arguments, which then dies when the thread that started it does.

Run as `python -I -S leash.py PARENT_PID PROGRAM ARGUMENT...`; only Linux knows such a death. No `preexec_fn`, because
running Python between fork and exec can deadlock a process that has threads.
"""

import ctypes
import os
import signal
import sys

if __name__ == "__main__":
    parent, *argv = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of <sys/prctl.h>; kept across exec
        if os.getppid() != int(parent):
            sys.exit("the parent died before its child began")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 our own command lines, never a shell's
    except OSError as error:
        sys.exit(f"{argv[0]} can't be started: {error.strerror}")
