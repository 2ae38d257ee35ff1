"""How many threads a call gets, on machines that exist on paper: idle, busy, with load that comes and goes."""

import os

import numpy as np
import pytest

from skmlmc._engine import threads
from skmlmc._engine.threads import Pace, Room, Times

TOKENS = [40, 3, 3, 2, 30, 3, 2]  # calls of a document and what follows
DOCUMENT = 0.1  # seconds of such a document with one thread on an idle machine


class Machine(threads.Clock):
    """Processors, other programs, and a model whose calls take as long as they would there.

    A call with more threads than there are processors left takes ten times as long as with one thread. With short waits
    it is more as its tokens say: few of them take longer, many are done sooner.
    """

    def __init__(
        self, processors=2, others=0, *, tells=True, quota=None, barrier=0.0, neighbour=False, short_waits=False
    ):
        self.count, self.others, self.tells, self.quota = processors, others, tells, quota
        self.barrier, self.neighbour, self.short_waits = barrier, neighbour, short_waits
        self.now = self.process = self.thread = self.idle = 0.0
        self.pace, self.used = Pace(Room(self), short_waits), []

    def times(self):
        return Times(self.now, self.process, self.thread)

    def processors(self):
        return (self.idle, self.count + 1.0 - self.running()) if self.tells else (None, float("inf"))

    def running(self):
        return self.others + self.neighbour + 1

    def rest(self, seconds):
        """Do nothing."""
        self.now += seconds
        self.idle += seconds * max(0, self.count - self.others - self.neighbour)

    def share(self, n, tokens):
        """Return the part of a processor that each thread gets, and how long a call of one second takes."""
        others = self.others + self.neighbour
        got = min(1.0, self.count / (n + others))
        if n == 1:
            return got, 1 / got
        if self.quota is not None and n > self.quota:
            return self.quota / n, 1 / self.quota
        if got < 1:
            return got, (1.5 if tokens < 10 else 0.7) / got if self.short_waits else 10 / got
        return got, 1 / n + self.barrier * n

    def call(self, n, tokens):
        got, seconds = self.share(n, tokens)
        seconds *= DOCUMENT * tokens / sum(TOKENS)
        self.now += seconds
        self.thread += seconds * got
        self.process += seconds * (n * got + self.neighbour * min(1.0, self.count / (n + self.others + 1)))
        self.idle += seconds * max(0.0, self.count - n * got - self.others - self.neighbour)
        self.used.append(n)
        return 0

    def documents(self, number, most=None):
        """Answer documents; returns how many a second."""
        self.used, start = [], self.now
        for _ in range(number):
            for tokens in TOKENS:
                self.pace.run(lambda n, tokens=tokens: self.call(n, tokens), tokens, most or self.count)
        return number / (self.now - start)

    def best(self):
        """Documents a second with one thread or all, whichever is better."""
        seconds = [sum(tokens * self.share(n, tokens)[1] for tokens in TOKENS) for n in (1, self.count)]
        return sum(TOKENS) / (DOCUMENT * min(seconds))


@pytest.mark.parametrize("processors", [1, 2, 3, 8, 13, 16])
@pytest.mark.parametrize("others", [0, 1, 2, 4, 20])
def test_as_fast_as_the_better_of_one_and_all(processors, others):
    machine = Machine(processors, others)
    machine.rest(0.5)
    first = machine.documents(20)
    assert first >= 0.8 * machine.best() and machine.documents(100) >= 0.95 * machine.best()
    if 1 < others < processors - 1:
        assert machine.documents(100) > 1.5 * machine.best()


@pytest.mark.parametrize("others", [0, 1, 2, 4])
def test_with_short_waits_calls_of_each_size_get_what_is_best_for_them(others):
    """On a busy machine two threads get more of the processors than one, which pays for calls with many tokens."""
    machine = Machine(2, others, short_waits=True)
    machine.rest(0.5)
    assert machine.documents(20) >= 0.8 * machine.best() and machine.documents(40) >= 0.95 * machine.best()
    if others == 4:
        assert machine.documents(100) > 1.02 * machine.best()
        assert {1, 2} == set(machine.used)


def test_fewer_than_before():
    machine = Machine(16, short_waits=True)
    machine.documents(50)
    machine.documents(50, most=3)
    assert max(machine.used) == 3


def test_an_idle_machine_is_used_from_the_first_call():
    for processors in (2, 13, 16):
        machine = Machine(processors)
        machine.rest(0.5)
        machine.documents(1)
        assert set(machine.used) == {processors}


@pytest.mark.parametrize("processors", [2, 16])
def test_load_comes_and_goes(processors):
    machine = Machine(processors)
    idle = machine.documents(50)
    machine.others = 2 * processors
    machine.documents(1)
    assert sum(n > 1 for n in machine.used) <= 2, "calls that suffer before it is noticed"
    assert machine.documents(50) >= 0.95 * machine.best()
    machine.others = 0
    machine.documents(20)
    assert machine.documents(20) >= 0.95 * idle


def test_load_that_comes_again_and_again():
    """Half a second in every two: threads go down for it, and the more often it comes, the later up again."""

    def seconds(most):
        machine = Machine(2)
        for _ in range(200):
            machine.others = 4 if int(machine.now / 0.5) % 4 == 0 else 0
            machine.documents(1, most)
        return machine.now

    assert seconds(2) < 1.05 * seconds(1)


@pytest.mark.parametrize("others", [0, 1, 4])
def test_where_nobody_tells_what_is_idle(others):
    """There it goes by what its threads get: all of them at first, and again after long waits."""
    machine = Machine(2, others, tells=False)
    machine.documents(100)
    assert machine.documents(1000) >= 0.9 * machine.best()
    machine.others = 0
    machine.documents(700)  # the longest wait
    assert machine.documents(100) >= 0.95 * machine.best()


def test_a_pause_does_not_end_a_wait():
    machine = Machine(2, 4, tells=False)
    machine.documents(1)
    machine.rest(0.5)
    machine.documents(1)
    assert set(machine.used) == {1}


def test_after_a_pause_it_looks_around():
    machine = Machine(2)
    machine.documents(30)
    machine.rest(100)
    machine.others = 3
    machine.documents(1)
    assert set(machine.used) == {1}


@pytest.mark.parametrize("quota", [1.2, 1.9])
def test_a_quota_of_the_container(quota):
    """The host's processors idle meanwhile, but this process is stopped when it has had its part."""
    machine = Machine(8, quota=quota)
    machine.documents(100, most=2)
    assert machine.documents(100, most=2) >= 0.95 * quota / DOCUMENT


def test_threads_that_bring_nothing():
    """Barriers of a tiny model take longer than its sums."""
    machine = Machine(2, barrier=0.5)
    machine.documents(300)
    assert machine.documents(300) >= 0.97 * machine.best() and np.mean(machine.used) < 1.1
    few = Machine(16, barrier=0.02)
    few.documents(2000)
    assert few.documents(500) >= 1.15 * few.best() and np.median(few.used) in (6, 8)


def test_other_threads_of_this_process():
    machine = Machine(2, neighbour=True)
    assert machine.documents(20) >= 0.5 * machine.best() and machine.documents(100) >= 0.95 * machine.best()


def test_no_more_than_most():
    machine = Machine(16)
    machine.documents(50, most=3)
    assert max(machine.used) == 3
    machine.documents(50, most=1)
    assert set(machine.used) == {1}


def test_failed_calls_teach_nothing():
    machine = Machine(2)
    machine.documents(5)
    before = machine.pace._room._seconds
    assert machine.pace.run(lambda n: 2, 3, 2) == 2
    assert machine.pace._room._seconds == before


def test_looks_at_this_machine():
    times = threads.Clock().times()
    idle, free = threads.Clock().processors()
    assert times.passed > 0 and times.process >= times.thread >= 0
    if os.path.exists("/proc/stat"):
        assert idle is None or idle > 0
        assert free <= os.cpu_count()


def test_a_file_that_is_no_proc_stat(monkeypatch):
    assert threads.read_stat([], {0}, 100) == (None, float("inf"))
    assert threads.read_stat([b"cpu0 0 0 0 0 0", b"procs_running 1"], {0}, 100) == (None, 1.0)
    monkeypatch.delattr(threads.os, "sched_getaffinity", raising=False)
    assert threads.Clock().processors() == (None, float("inf"))
