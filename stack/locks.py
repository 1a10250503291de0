"""Locks that the kernel lets go of when their holder dies, however it dies."""

import fcntl
import os
from pathlib import Path


class FileLock:
    """An advisory lock on a file of its own; never deleted, so that all lock the same inode."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def share(self) -> None:
        """Hold it together with others; wait while somebody holds it alone."""
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def own(self) -> None:
        """Hold it alone; wait for all others to let go."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def try_own(self) -> bool:
        """Hold it alone if nobody else holds it now. A refusal may cost a share held before."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go; a child that inherited the descriptor keeps holding."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
