"""Which process wrote something, and whether it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref

import psutil
import pytest

from rwkv_sweep.utils.processes import is_dead, this_process
from rwkv_sweep.utils.signals import Terminated, handle_termination, interrupts_wait, let_go


def test_this_process_lives() -> None:
    assert not is_dead(this_process())


def test_a_pid_used_again_is_another_process() -> None:
    host, pid, start = this_process().rsplit(":", 2)
    assert is_dead(f"{host}:{pid}:{float(start) - 100}")


def test_an_ended_process_is_dead_and_another_hosts_is_not_known_to_be() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = psutil.Process(child.pid).create_time()
        host = this_process().rsplit(":", 2)[0]
        assert not is_dead(f"{host}:{child.pid}:{start}")
        child.kill()
        child.wait()
    assert is_dead(f"{host}:{child.pid}:{start}")
    assert not is_dead(f"elsewhere:{child.pid}:{start}")


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("written")
        done.append("never")
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_comes_through() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        done.append("second")
    assert done == ["first"]


class Held:
    """What a function has open when it is interrupted."""


def test_what_interrupted_functions_held_is_let_go() -> None:
    held: list[weakref.ref[Held]] = []

    def interrupted() -> None:
        transaction = Held()
        held.append(weakref.ref(transaction))
        raise KeyboardInterrupt

    def cleaned_up() -> None:
        try:
            interrupted()
        finally:
            transaction = Held()
            held.append(weakref.ref(transaction))
            raise ValueError("the clean-up fails in turn")

    try:
        cleaned_up()
    except ValueError as error:
        assert all(reference() is not None for reference in held)
        let_go(error)
        assert [reference() for reference in held] == [None, None]


def test_sigterm_is_an_interrupt_of_its_own_kind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        handle_termination()
        with pytest.raises(Terminated), interrupts_wait():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
