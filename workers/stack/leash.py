"""A script that becomes the program in its arguments, which then dies when the thread that started it does.

Run as `python -I -S leash.py PARENT_PID PROGRAM ARGUMENT...`. A program of its own instead of a `preexec_fn`, because
running Python between fork and exec can deadlock a process that has threads. Outside Linux there is no such signal,
so there a program outlives a parent that was killed with -9.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>; kept across exec


def main() -> None:
    parent, *argv = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the parent died before its child began")
    # Python ignores these, and what is ignored stays so across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 our own command lines, never a shell's
    except OSError as error:
        sys.exit(f"{argv[0]} can't be started: {error.strerror}")


if __name__ == "__main__":
    main()
