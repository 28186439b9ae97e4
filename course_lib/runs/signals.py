"""Signals that end a run only after it has saved."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import Any


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP (a closed terminal), so that a run can save before it ends.

    A second SIGINT ends the run at once. A second SIGTERM does not: launchers pass on signals that the system has
    already sent to every process. A signal that is ignored, as SIGHUP is under nohup, stays ignored. (`accelerate
    launch` with several processes ends them at SIGHUP even so.)

    Args:
        aloud: say that a signal was noted.
    """

    def __init__(self, aloud: bool) -> None:
        self.aloud = aloud
        self.name: str | None = None
        self._before: dict[int, Any] = {}

    def came(self) -> bool:
        """Whether to stop."""
        return self.name is not None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            known = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))  # Windows has two
            noted = [number for number in known if number and signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in noted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.aloud and self.name is None:
            with suppress(OSError):  # the terminal may be closed; print() may have been interrupted
                os.write(2, b"\nstopping after this update, and saving; one more Ctrl-C ends at once\n")
        self.name = signal.Signals(number).name
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
