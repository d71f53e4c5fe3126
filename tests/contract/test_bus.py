"""The contract of `ports.Bus`, tested on every adapter."""

import threading

from limner.ports import Bus

SOON_S = 30


def test_a_wake_up_reaches_all_who_subscribed(bus: Bus) -> None:
    one, two = threading.Event(), threading.Event()
    for event in (one, two):
        bus.subscribe(event.set)
    bus.wake()
    assert one.wait(SOON_S)
    assert two.wait(SOON_S)


def test_an_unsubscribed_listener_is_not_called(bus: Bus) -> None:
    stays, leaves = threading.Event(), threading.Event()
    bus.subscribe(stays.set)
    unsubscribe = bus.subscribe(leaves.set)
    unsubscribe()
    unsubscribe()
    bus.wake()
    assert stays.wait(SOON_S)
    assert not leaves.is_set()


def test_a_wake_up_without_listeners_does_nothing(bus: Bus) -> None:
    bus.wake()


def test_listeners_may_come_and_go_while_others_wake(bus: Bus) -> None:
    ended = threading.Event()
    waker = threading.Thread(target=lambda: [bus.wake() for _ in range(1000)] and ended.set())
    waker.start()
    while not ended.is_set():
        bus.subscribe(lambda: None)()
    waker.join()
