"""Runs a command as the terminal's foreground job of its own: `foreground.py PROGRAM ARG…`.

`make` dies of Ctrl-C even when its command ends well, and reports an error. With the terminal's
foreground given to the command alone, Ctrl-C reaches the command and nothing else, and `make`
reports the command's own exit status. Without a terminal it simply becomes the command.
"""

import os
import signal
import sys

if os.isatty(0):
    os.setpgid(0, 0)
    # A background process that gives itself the foreground would be stopped for trying.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
