"""Interrupts."""

import os
import signal
import time

import pytest

from config.signals import StopSignal


def test_a_second_ctrl_c_is_heard_at_once():
    """A SIGTERM is none: torchrun sends it too."""
    stop, noted = StopSignal(), []
    with pytest.raises(KeyboardInterrupt), stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            noted.append(stop.requested)
    assert noted == [True, True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
