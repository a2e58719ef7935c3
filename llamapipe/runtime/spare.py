"""``python -m llamapipe.runtime.spare MODULE [FD]``: a process that is nobody yet. Started by the server.

It imports ``MODULE`` and lets it `prepare` with the least priority there is, says so on the event descriptor ``FD``,
waits until something comes on standard input, and then is that module's `main`. Nothing else is imported here, for that
would be done at the usual priority.
"""

import os
import select
import signal
import sys
import threading
from importlib import import_module

__all__ = ["main"]


def main(module: str, told: int = -1) -> None:
    """Prepare beside everything else, wait to be told, and become what is wanted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # In a thread of its own: whoever has the least priority and is not root never gets back from there.
    preparing = threading.Thread(target=_prepare, args=(module,), name="llamapipe spare", daemon=True)
    preparing.start()
    preparing.join()
    if told >= 0:
        os.eventfd_write(told, 1)
        os.close(told)
    select.select([sys.stdin.fileno()], [], [])
    import_module(module).main()


def _prepare(module: str) -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # of this thread alone
    import_module(module).prepare()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
