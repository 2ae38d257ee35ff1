"""How many threads pay at the moment: as many as would each have a processor, or what is faster than that.

Threads of llama.cpp wait for each other some thousand times in a call. One that has to share its processor with another
program holds all of them up, so that a call may take a hundred times as long as with one thread. `Room` finds out from
the clocks how many would each have a processor: calls begin with so many. `Pace` learns which number is the fastest for
calls of a size while so many fit. No bit of a result depends on the number.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# Seconds between two looks at all processors: clocks may count in hundredths.
WINDOW = max(0.1, 20 * time.get_clock_info("thread_time").resolution)
PAUSE = 0.2  # seconds without a call after which what was seen is old
RECENT = 2.0  # seconds that the look before the first call may look back
TOLERANCE = 0.3  # of a processor: what any system does beside
GUESSING = 25  # times as long as without a look at idle processors: the wait before more threads are tried again
LONGEST = 60.0  # seconds of such a wait
# One part in so many of the time may be lost by trying other numbers of threads: known ones, and ones that are not yet.
TRIALS, FIRST_TRIALS = 100, 20
UNFIT = 0.25  # how much longer a call may take with more threads than fit


class Times(NamedTuple):
    """Seconds on the clocks: that passed, that processors worked for this process, and for this thread of it."""

    passed: float
    process: float
    thread: float


class Clock:
    """The clocks of this machine."""

    def times(self) -> Times:
        """Look at one's own clocks; costs next to nothing."""
        return Times(time.perf_counter(), time.process_time(), time.thread_time())

    def processors(self) -> tuple[float | None, float]:
        """Look at all processors, as `read_stat` does; only Linux tells."""
        try:
            with open("/proc/stat", "rb") as file:
                return read_stat(file, os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK"))
        except (OSError, AttributeError, ValueError, IndexError):
            return None, float("inf")


def read_stat(lines: Iterable[bytes], mine: set[int], ticks: int) -> tuple[float | None, float]:
    """Read ``/proc/stat``: how long processors had nothing to do, and how many of them have nothing to do.

    Parameters
    ----------
    lines : iterable of bytes
        The file.
    mine : set of int
        Numbers of the processors that this process may use.
    ticks : int
        Parts of a second in which the file counts.

    Returns
    -------
    idle : float or None
        Seconds since the start of the machine, added up over `mine`; None where a sandbox does not count.
    free : float
        Processors that nobody uses just now, with the one of this process.

    Examples
    --------
    >>> read_stat([b"cpu  4 0 0 900 0", b"cpu0 1 0 0 500 0", b"cpu1 3 0 0 390 10", b"procs_running 2"], {1}, 100)
    (4.0, 1.0)
    """
    idle, processors, free = 0.0, 0, float("inf")
    for line in lines:
        name, *numbers = line.split()
        if name.startswith(b"cpu") and name != b"cpu":
            processors += 1
            if int(name[3:]) in mine:
                idle += (int(numbers[3]) + int(numbers[4])) / ticks
        elif name == b"procs_running":
            free = processors + 1.0 - int(numbers[0])
            break
    return idle or None, free


def threads_that_fit(n: float, had: float, idle: float | None) -> float:
    """Count the threads that would each have a processor, after `n` of them had some and others were `idle`.

    Threads that had less than a processor each shared some with others, half and half: all of those are given up.
    Where nobody knows what was idle, any number fits.

    Examples
    --------
    >>> threads_that_fit(1, 1.0, 0.9), threads_that_fit(2, 1.3, 0.0), threads_that_fit(16, 14.0, 0.0)
    (2, 1, 12)
    >>> threads_that_fit(1, 1.0, None), threads_that_fit(2, 1.0, None)
    (inf, 1)
    """
    missing, spare = n - had - (idle or 0.0), max(TOLERANCE, n / 20)
    if missing > spare:
        return max(1, int(n - 2 * (missing - TOLERANCE)))
    return float("inf") if idle is None else max(1, int(had + idle + spare))


class Room:
    """How many threads would each have a processor, as seen while calls run; shared by the models of a process.

    Parameters
    ----------
    clock : Clock
        Tells the times.

    Attributes
    ----------
    threads : int
        So many fit, of those that a call may have.
    """

    def __init__(self, clock: Clock):
        self.clock, self.threads, self._most = clock, 1, 1
        self._wait = self._shut = self._rose = 0.0
        self._window = WINDOW
        self._begin(clock.times(), clock.processors()[0])
        self._last = float("-inf")

    def _begin(self, now, idle):
        """Begin another window."""
        self._start, self._idle, self._last = now, idle, now.passed
        self._seconds = self._threads = self._process = self._team = 0.0
        self._learn: list[Callable[[], Any]] = []

    def enter(self, now: Times, most: int) -> None:
        """Look around before a call that may have `most` threads, if it is the first one or comes after a pause."""
        self._most = most
        if now.passed - self._last < PAUSE:
            return
        (idle, free), seconds = self.clock.processors(), now.passed - self._start.passed
        if idle is not None and self._idle is not None and WINDOW / 2 < seconds < RECENT:
            had = now.process - self._start.process + idle - self._idle
            free = min(free, had / seconds + TOLERANCE)
        fits = self._rounded(max(1.0, free))
        self.threads = fits if now.passed >= self._shut else min(self.threads, fits)
        self._begin(now, idle)

    def _rounded(self, fits):
        return self._most if fits >= self._most else rung(fits)

    def note(self, n: int, before: Times, after: Times, learn: Callable[[], Any]) -> None:
        """Take note of a call with `n` threads; `learn` is called if as many fitted as was thought."""
        seconds = max(1e-9, after.passed - before.passed)
        self._seconds += seconds
        self._threads += n * seconds
        self._process += after.process - before.process
        self._team += n * (after.thread - before.thread)
        self._learn.append(learn)
        self._last = after.passed
        if after.passed - self._start.passed >= self._window:
            self._judge(after)

    def _judge(self, now):
        """See how many threads would have fitted since the window began."""
        idle, seconds = self.clock.processors()[0], now.passed - self._start.passed
        self._window = max(WINDOW, 100 * (self.clock.times().passed - now.passed))  # many processors take their time
        idled = None if idle is None or self._idle is None else (idle - self._idle) / seconds
        in_calls = self._seconds or 1e-9  # another thread's model may have begun a window just now
        used, before = self._threads / in_calls, self.threads
        # The process may have other threads that work; those of a call get about as much as the one that waits for it.
        had = min(self._process, self._team) / in_calls
        fits = self._rounded(threads_that_fit(used, had, idled))
        if fits > before and now.passed >= self._shut:
            self.threads, self._rose = fits, now.passed
        elif fits < before:
            self.threads = fits
            if used > fits:  # the longer it went on, and the sooner after a rise, the later the next one
                lost = seconds * (GUESSING if idled is None else 1)
                again = 2 * self._wait if now.passed - self._rose < 10 * self._wait else 0.0
                self._wait = min(LONGEST, max(lost, again))
                self._shut = now.passed + self._wait
        elif fits == before:
            for learn in self._learn:
                learn()
        self._begin(now, idle)


class Pace:
    """Chooses the threads of each call of a model.

    Parameters
    ----------
    room : Room
        How many fit.
    bold : bool
        Whether more than fit are tried too: with short waits they lose little, and on a busy machine two threads get
        more of the processors than one.
    """

    def __init__(self, room: Room, bold: bool = False):
        self._room, self._bold = room, bold
        self._sizes: dict[tuple[int, int], _Size] = defaultdict(_Size)  # by a call's binary digits, and how many fit

    def run(self, call: Callable[[int], int], tokens: int, most: int) -> int:
        """Run ``call(threads)``, which returns 0 if all is well, with at most `most` threads; returns the same.

        `tokens` is the size of the call.
        """
        room = self._room
        room.enter(room.clock.times(), most)
        fit = ladder(min(most, room.threads))
        size = self._sizes[tokens.bit_length(), fit[-1]]
        n = size.choose(ladder(most) if self._bold else fit, fit[-1], tokens)
        before = room.clock.times()
        code = call(n)
        if code == 0:
            after = room.clock.times()
            seconds = after.passed - before.passed
            size.spent += seconds
            room.note(n, before, after, lambda: size.learn(n, seconds / tokens))
        return code


class _Size:
    """What is known of calls of about one size while so many threads fit: seconds a token with each number."""

    def __init__(self):
        self.spent, self._known = 0.0, {}  # number of threads: (seconds a token, how often tried)
        self._tried = defaultdict(float)  # number of threads: how much was spent by then

    def choose(self, numbers, fit, tokens):
        """Choose the fastest number, now and then the one beside it; those that fit where none is known."""
        known = self._known.keys() & numbers
        if not known:
            return fit
        best = min(known, key=self._known.__getitem__)
        at = numbers.index(best)
        for n in (*numbers[at + 1 : at + 2], *numbers[max(0, at - 1) : at]):
            if self.spent - self._tried[n] >= tokens * self._price(n, best, fit):
                self._tried[n] = self.spent
                return n
        return best

    def _price(self, n, best, fit):
        """Return the seconds a token to spend before another number is tried.

        What other programs did may have decided the first tries with more threads than fit, unless it is very clear.
        """
        fastest, (seconds, times) = self._known[best][0], self._known.get(n, (0.0, 0))
        if times >= 3 or (times > 0 and (n <= fit or seconds > 2 * fastest)):
            return TRIALS * (seconds - fastest)
        loss = max(0.0, best / n - 1) if n < best else 0.0 if n <= fit else UNFIT
        return FIRST_TRIALS * loss * fastest

    def learn(self, n, seconds):
        """Take note of a call's seconds a token, the latest ones more than earlier ones."""
        before, times = self._known.get(n, (0.0, 0))
        self._known[n] = before + (seconds - before) * max(0.3, 1 / (times + 1)), times + 1


def ladder(most: int) -> list[int]:
    """List the numbers of threads to choose from.

    Examples
    --------
    >>> ladder(1), ladder(2), ladder(13)
    ([1], [1, 2], [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13])
    """
    return sorted({rung(n) for n in range(1, most)} | {most})


def rung(most: float) -> int:
    """Round down to a number of three binary digits, as those in `ladder` are.

    Examples
    --------
    >>> rung(3.9), rung(13.0), rung(16.0)
    (3, 12, 16)
    """
    low = max(0, int(most).bit_length() - 3)
    return int(most) >> low << low


ROOM = Room(Clock())
