"""Ctrl-C and SIGTERM: they end what runs, even where Python forgets exceptions."""

import signal
import sys
import threading
import time
import weakref

import pytest

from videopainter.utils import signals as stopping
from videopainter.utils.signals import Stop, Stopped, stoppable

pytestmark = pytest.mark.usefixtures("heeds_sigint")
STOPS = pytest.mark.parametrize(
    "number, error, status",
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)],
    ids=["ctrl_c", "sigterm"],
)


class Thing:
    pass


class Frame:
    """Stopped while it is destroyed, as decord's frames may be."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def go_on():
    for _ in range(1000):
        time.sleep(0.01)
    pytest.fail("the stop was lost")


@STOPS
def test_a_stop_ends_it(number, error, status):
    handler, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(error) as caught, stoppable():
        signal.raise_signal(number)
        go_on()
    assert getattr(caught.value, "code", None) == status
    assert signal.getsignal(signal.SIGTERM) is handler and sys.unraisablehook is hook


@STOPS
def test_a_stop_in_a_destructor_is_not_lost(number, error, status, capfd):
    done = []
    with pytest.raises(error) as caught, stoppable():
        Frame(number)
        done.append("the destructor's exception was forgotten")
        go_on()
    assert getattr(caught.value, "code", None) == status
    assert done and capfd.readouterr().err == ""


@STOPS
def test_a_stop_that_comes_too_soon_is_not_lost(number, error, status, monkeypatch, capfd):
    """Without a moment's wait it may find the main thread where it was: a busy machine takes as long as that."""
    monkeypatch.setattr(stopping, "_MOMENT", 0)
    for _ in range(50):
        with pytest.raises(error), stoppable():
            Frame(number)
            go_on()
    assert capfd.readouterr().err == ""


@STOPS
def test_a_stop_while_an_error_is_told_is_not_lost(number, error, status, monkeypatch, capfd):
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: signal.raise_signal(number))

    class Broken:
        def __del__(self):
            raise RuntimeError

    with pytest.raises(error), stoppable():
        Broken()
        go_on()
    assert capfd.readouterr().err == ""


def test_a_stop_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stoppable():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@STOPS
def test_a_stop_in_a_callback_is_not_lost(number, error, status):
    with pytest.raises(error), stoppable():
        thing = Thing()
        watch = weakref.ref(thing, lambda _: signal.raise_signal(number))
        del thing
        assert watch() is None
        go_on()


def test_other_errors_of_destructors_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))

    class Broken:
        def __del__(self):
            raise RuntimeError

    with stoppable():
        Broken()
    assert told == [RuntimeError]


def test_a_loop_is_only_asked_and_a_second_time_ended():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop() and Stopped("saved", stop).status == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGINT
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_a_loop_says_when_it_is_asked(capfd):
    with Stop("After this step.") as stop:
        signal.raise_signal(signal.SIGTERM)
        assert Stopped("saved", stop).status == 143
    assert capfd.readouterr().err == "\nAfter this step.\n"


def test_another_thread_takes_no_signals():
    asked = []

    def work():
        with Stop() as stop:
            asked.append(stop())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False] and signal.getsignal(signal.SIGINT) is before
