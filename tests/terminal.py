"""A pseudo-terminal for tests of what people see."""

import contextlib
import fcntl
import os
import pty
import struct
import termios


@contextlib.contextmanager
def terminal(columns=80):
    """A pseudo-terminal: (its end for a program, a function that reads all that was drawn)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def drawn():
        os.close(theirs)
        read = b""
        with contextlib.suppress(OSError):  # Linux's end of file of a terminal
            while part := os.read(ours, 65536):
                read += part
        return read.decode()

    yield theirs, drawn
    os.close(ours)
