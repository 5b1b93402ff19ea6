"""The event loop: what becomes of each request, one after the other. Compiled; memory does not grow with requests.

Time is in seconds. Environments that are busy wait in a heap by the moment they answer. Idle ones are kept in the order
in which they became idle, so that the reclaimed ones are always at the front; the rule of choice takes from the back
(newest first), the front (oldest first) or anywhere.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulation.compiled import compiled
from simulation.sketch import BINS, bin_of

Floats = npt.NDArray[np.float64]

# Columns of a table of calls.
BUSY_S, BILLED_MS, LATENCY_S, ANSWER = range(4)
CORRECT, INCORRECT_ANSWER, NO_ANSWER_IN_TIME = range(3)  # of a call that ran
NEWEST_FIRST, OLDEST_FIRST, RANDOM = range(3)
# Where a call runs: in a warm or in a new environment on demand, in provisioned concurrency, nowhere.
WARM_START, COLD_START, PROVISIONED_START, THROTTLE = range(4)

# Counters, all from moment 0 on.
(
    CALLERS,  # requests, retries not counted
    GAVE_UP,  # callers without a correct answer at the end
    CALLS,  # invokes that ran, pings not counted
    COLD,  # of these, on a new environment
    IN_PROVISIONED,
    THROTTLED,
    GATEWAY_TIMEOUTS,
    INCORRECT,
    RETRIES,
    WARM_BILLED_MS,
    COLD_BILLED_MS,
    PROVISIONED_BILLED_MS,
    PINGS,
    PINGS_COLD,
    PINGS_BILLED_MS,
    PROVISIONED_S,  # provisioned environments x seconds
    ALONE,  # calls that began while no other was under way
    PEAK,  # most calls under way at once
) = range(18)
COUNTERS: Final = 18

# Scalars that outlive a block.
(
    HEAD,  # of the ring of idle environments
    IDLE,
    BUSY,
    BUSY_PROVISIONED,
    PROVISIONED_NOW,
    NEXT_TICK,
    LAST_TICK,
    TOKENS,  # new environments that may start now
    TOKENS_AT,
    WAITING,  # retries
    USE_SUM,
    USE_COUNT,
    MINUTES_HIGH,
    MINUTES_LOW,
    WANTED,
    WANTED_AT,
) = range(16)
SCALARS: Final = 16

MINUTE_S: Final = 60.0
# Most retries that wait at the same time; a caller beyond it gives up.
MAX_WAITING: Final = 65_536


class Rules(NamedTuple):
    """What does not change over a simulation."""

    idle_s: float
    choice: int
    concurrency: int
    scaling_burst: float
    scaling_per_s: float
    max_retries: int
    backoff_s: float
    hour_s: float
    # Target tracking; a target of 0 switches it off.
    target: float
    min_provisioned: float
    max_provisioned: float
    allocation_s: float
    # Pings; none where `ping_every_s` is infinite.
    ping_every_s: float
    ping_spread_s: float
    ping_hold_s: float  # 0: as long as a call


class State(NamedTuple):
    """What changes; arrays only.

    It is taken apart before the event loop: reading an array out of a tuple costs more there than the event itself.
    """

    scalars: Floats
    counters: Floats  # beyond them, from COUNTERS on: cold starts by how many other calls were under way
    latencies: Floats  # histogram of the callers with a correct answer
    busy: Floats  # heap: when each call on demand ends
    busy_provisioned: Floats  # heap: when each call in provisioned concurrency ends
    idle: Floats  # ring: moment of reclaim
    waiting: Floats  # heap: [moment, first sent, attempts made]
    pings: Floats  # [next moment, start of its round]


def new_state(rules: Rules, pings: int, from_s: float, random: np.random.Generator) -> State:
    """Return the state of an empty pool. Pings begin at a random moment of their interval."""
    scalars = np.zeros(SCALARS)
    scalars[[NEXT_TICK, LAST_TICK, TOKENS_AT]] = from_s
    scalars[TOKENS] = rules.scaling_burst
    scalars[WANTED_AT] = math.inf
    schedule = np.empty((pings, 2))
    if pings:
        schedule[:, 1] = from_s + random.random() * rules.ping_every_s
        schedule[:, 0] = schedule[:, 1] + random.random(pings) * rules.ping_spread_s
    places = rules.concurrency + 1
    return State(
        scalars,
        np.zeros(COUNTERS + places),
        np.zeros(BINS),
        np.zeros(places),
        np.zeros(places),
        np.zeros(places),
        np.zeros((MAX_WAITING, 3)),
        schedule,
    )


@compiled
def _push_end(heap: Floats, size: int, end: float) -> None:
    """Add the end of a call to a heap of this size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] <= end:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = end


@compiled
def _pop_end(heap: Floats, size: int) -> None:
    """Remove the earliest end from a heap of this size."""
    last = size - 1
    moved = heap[last]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        if child + 1 < last and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= moved:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moved


@compiled
def _copy_retry(heap: Floats, source: int, target: int) -> None:
    # By number: the assignment of a row to a row takes seconds to compile.
    heap[target, 0], heap[target, 1], heap[target, 2] = heap[source, 0], heap[source, 1], heap[source, 2]


@compiled
def _push_retry(heap: Floats, size: int, moment: float, first: float, attempts: float) -> None:
    """Add a retry to a heap of this size, ordered by moment."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent, 0] <= moment:
            break
        _copy_retry(heap, parent, place)
        place = parent
    heap[place, 0], heap[place, 1], heap[place, 2] = moment, first, attempts


@compiled
def _pop_retry(heap: Floats, size: int) -> None:
    """Remove the earliest retry from a heap of this size."""
    last = size - 1
    moved = heap[last, 0]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        if child + 1 < last and heap[child + 1, 0] < heap[child, 0]:
            child += 1
        if heap[child, 0] >= moved:
            break
        _copy_retry(heap, child, place)
        place = child
    _copy_retry(heap, last, place)


@compiled
def _end_calls(
    now: float, idle_s: float, busy: Floats, size: int, idle: Floats, head: int, count: int
) -> tuple[int, int, int]:
    """Let calls on demand end and idle environments be reclaimed; return calls under way, ring head and ring size."""
    ring = len(idle)
    while size > 0 and busy[0] <= now:
        place = head + count
        idle[place if place < ring else place - ring] = busy[0] + idle_s
        count += 1
        _pop_end(busy, size)
        size -= 1
    while count > 0 and idle[head] < now:
        head = head + 1 if head + 1 < ring else 0
        count -= 1
    return size, head, count


@compiled
def _end_provisioned(now: float, provisioned: Floats, size: int) -> int:
    while size > 0 and provisioned[0] <= now:
        _pop_end(provisioned, size)
        size -= 1
    return size


@compiled
def _take_other(choice: int, idle: Floats, head: int, count: int, random: np.random.Generator) -> int:
    """Remove an idle environment by a rule other than newest first; return the ring's new head."""
    ring = len(idle)
    if choice == OLDEST_FIRST:
        return (head + 1) % ring
    for place in range(int(random.random() * count), count - 1):
        idle[(head + place) % ring] = idle[(head + place + 1) % ring]
    return head


@compiled
def bill_provisioned(now: float, scalars: Floats, counters: Floats) -> None:
    """Bill provisioned concurrency up to a moment."""
    if now > 0:
        counters[PROVISIONED_S] += scalars[PROVISIONED_NOW] * (now - max(scalars[LAST_TICK], 0.0))
    scalars[LAST_TICK] = now


@compiled
def _tick(now: float, rules: Rules, scalars: Floats, counters: Floats, levels: Floats) -> None:
    """Bill provisioned concurrency up to a moment and set its level: by the hour, or once a minute by its use."""
    bill_provisioned(now, scalars, counters)
    if rules.target > 0:
        scalars[NEXT_TICK] = now + MINUTE_S
        _track(now, rules, scalars)
    else:
        hour = math.floor(now / rules.hour_s + 1e-9)
        scalars[PROVISIONED_NOW] = levels[int(hour) % len(levels)]
        scalars[NEXT_TICK] = (hour + 1) * rules.hour_s


@compiled
def _track(now: float, rules: Rules, scalars: Floats) -> None:
    """Target tracking, once a minute.

    Application Auto Scaling raises the level after 3 minutes above the target and lowers it after 15 minutes below 90%
    of it. https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
    """
    if scalars[PROVISIONED_NOW] == 0:
        scalars[PROVISIONED_NOW] = rules.min_provisioned
    if now >= scalars[WANTED_AT]:
        scalars[PROVISIONED_NOW] = scalars[WANTED]
        scalars[WANTED_AT] = math.inf
    use = scalars[USE_SUM] / scalars[USE_COUNT] if scalars[USE_COUNT] > 0 else 0.0
    is_high = use > rules.target
    scalars[MINUTES_HIGH] = scalars[MINUTES_HIGH] + 1 if is_high else 0
    scalars[MINUTES_LOW] = scalars[MINUTES_LOW] + 1 if use < 0.9 * rules.target else 0
    scalars[USE_SUM] = scalars[USE_COUNT] = 0
    # One change at a time; adding environments takes a while, removing them does not.
    if scalars[WANTED_AT] == math.inf and (scalars[MINUTES_HIGH] >= 3 or scalars[MINUTES_LOW] >= 15):
        wanted = math.ceil(scalars[PROVISIONED_NOW] * use / rules.target)
        scalars[WANTED] = min(max(wanted, rules.min_provisioned), rules.max_provisioned)
        scalars[WANTED_AT] = now + (rules.allocation_s if is_high else 0.0)
        scalars[MINUTES_HIGH] = scalars[MINUTES_LOW] = 0


@compiled
def _may_start(now: float, burst: float, per_s: float, scalars: Floats) -> bool:
    """Take a token of the scaling rate, if one is left."""
    scalars[TOKENS] = min(burst, scalars[TOKENS] + (now - scalars[TOKENS_AT]) * per_s)
    scalars[TOKENS_AT] = now
    if scalars[TOKENS] < 1:
        return False
    scalars[TOKENS] -= 1
    return True


@compiled
def _next_ping(pings: Floats) -> float:
    """Return when the next ping is due."""
    return pings[:, 0].min() if len(pings) else math.inf


@compiled
def _schedule_ping(rules: Rules, pings: Floats, random: np.random.Generator) -> float:
    """Give the ping that is due its next moment; return when the next one is due."""
    due = pings[:, 0].argmin()
    pings[due, 1] += rules.ping_every_s
    pings[due, 0] = pings[due, 1] + random.random() * rules.ping_spread_s
    return _next_ping(pings)


@compiled
def _find_on_demand(now: float, taken: int, idle: int, rules: Rules, scalars: Floats) -> int:
    """Return where a call on demand runs; `taken`: concurrency in use or reserved, `idle`: environments."""
    if taken >= rules.concurrency:
        return THROTTLE
    if idle > 0:
        return WARM_START
    return COLD_START if _may_start(now, rules.scaling_burst, rules.scaling_per_s, scalars) else THROTTLE


@compiled
def _count_ping(found: int, billed_ms: float, counted: float, counters: Floats) -> None:
    if found != THROTTLE:
        counters[PINGS] += counted
        counters[PINGS_COLD] += counted * found
        counters[PINGS_BILLED_MS] += counted * billed_ms


@compiled
def _count_call(
    found: int, billed_ms: float, answer: float, attempts: int, counted: float, others: int, counters: Floats
) -> None:
    if attempts == 0:
        counters[CALLERS] += counted
    if found == THROTTLE:
        counters[THROTTLED] += counted
        return
    counters[CALLS] += counted
    if others == 0:
        counters[ALONE] += counted
    if found == COLD_START:
        counters[COLD] += counted
        counters[COUNTERS + others] += counted
        counters[COLD_BILLED_MS] += counted * billed_ms
    elif found == WARM_START:
        counters[WARM_BILLED_MS] += counted * billed_ms
    else:
        counters[IN_PROVISIONED] += counted
        counters[PROVISIONED_BILLED_MS] += counted * billed_ms
    if answer == NO_ANSWER_IN_TIME:
        counters[GATEWAY_TIMEOUTS] += counted
    elif answer == INCORRECT_ANSWER:
        counters[INCORRECT] += counted


@compiled
def _count_use(target: float, used: int, level: int, scalars: Floats) -> None:
    """Note for target tracking which share of the provisioned environments is busy."""
    if target > 0 and level > 0:
        scalars[USE_SUM] += used / level
        scalars[USE_COUNT] += 1


@compiled
def _next_retry(scalars: Floats, waiting: Floats) -> float:
    """Return when the next retry is due."""
    return waiting[0, 0] if scalars[WAITING] > 0 else math.inf


@compiled
def _take_retry(scalars: Floats, waiting: Floats) -> float:
    """Remove the retry that is due; return when the next one is."""
    _pop_retry(waiting, int(scalars[WAITING]))
    scalars[WAITING] -= 1
    return _next_retry(scalars, waiting)


@compiled
def _retry(
    moment: float, first: float, attempts: int, rules: Rules, state: State, random: np.random.Generator
) -> float:
    """Let a caller without a correct answer try again or give up; return when the next retry is due."""
    scalars, counters, waiting = state.scalars, state.counters, state.waiting
    counted = 1.0 if first >= 0 else 0.0
    if attempts < rules.max_retries and scalars[WAITING] < MAX_WAITING:
        # Exponential backoff with full jitter, as the AWS SDKs do.
        pause_s = rules.backoff_s * 2.0**attempts * random.random()
        _push_retry(waiting, int(scalars[WAITING]), moment + pause_s, first, attempts + 1.0)
        scalars[WAITING] += 1
        counters[RETRIES] += counted
    else:
        counters[GAVE_UP] += counted
    return _next_retry(scalars, waiting)


@compiled
def play(
    arrivals: Floats,
    until_s: float,
    rules: Rules,
    state: State,
    warm: Floats,
    cold: Floats,
    levels: Floats,
    random: np.random.Generator,
) -> None:
    """Play everything up to `until_s`: these arrivals, and the retries and pings that fall due.

    `warm` and `cold` are tables of calls (BUSY_S, BILLED_MS, LATENCY_S, ANSWER); `levels` is the provisioned
    concurrency of each hour.
    """
    scalars = state.scalars
    index = int(np.int64(0))  # a literal would be a type of its own, and compiled apart
    while True:
        index = _play_to_tick(arrivals, index, until_s, rules, state, warm, cold, random)
        tick = scalars[NEXT_TICK]
        if tick > until_s:
            break
        scalars[BUSY_PROVISIONED] = _end_provisioned(tick, state.busy_provisioned, int(scalars[BUSY_PROVISIONED]))
        _tick(tick, rules, scalars, state.counters, levels)


@compiled
def _play_to_tick(
    arrivals: Floats,
    index: int,
    until_s: float,
    rules: Rules,
    state: State,
    warm: Floats,
    cold: Floats,
    random: np.random.Generator,
) -> int:
    """Play what comes before the next tick, from this arrival on; return the index of the next arrival."""
    scalars, counters, latencies, busy, provisioned, idle, waiting, pings = state
    # What the loop reads at every event is kept in local variables: in the array it would cost half of the time. So
    # would a helper that takes several arrays at every event, or returns several values.
    head, idle_count, busy_count = int(scalars[HEAD]), int(scalars[IDLE]), int(scalars[BUSY])
    used, level, tick = int(scalars[BUSY_PROVISIONED]), int(scalars[PROVISIONED_NOW]), scalars[NEXT_TICK]
    ping_at, retry_at = _next_ping(pings), _next_retry(scalars, waiting)
    while True:
        arrival = arrivals[index] if index < len(arrivals) else math.inf
        now = min(arrival, retry_at, ping_at)
        if now >= tick or now > until_s:
            break
        busy_count, head, idle_count = _end_calls(now, rules.idle_s, busy, busy_count, idle, head, idle_count)
        used = _end_provisioned(now, provisioned, used)
        first, attempts, is_ping = now, 0, ping_at == now
        if is_ping:
            ping_at = _schedule_ping(rules, pings, random)
        elif retry_at == now:
            first, attempts = waiting[0, 1], int(waiting[0, 2])
            retry_at = _take_retry(scalars, waiting)
        else:
            index += 1

        found = PROVISIONED_START
        if is_ping or used >= level:
            found = _find_on_demand(now, busy_count + max(level, used), idle_count, rules, scalars)
        calls = cold if found == COLD_START else warm
        if found == WARM_START:
            if rules.choice != NEWEST_FIRST:
                head = _take_other(rules.choice, idle, head, idle_count, random)
            idle_count -= 1
        row = int(random.random() * len(calls))
        hold_s = rules.ping_hold_s if is_ping else 0.0
        ends, billed_ms = now + calls[row, BUSY_S] + hold_s, calls[row, BILLED_MS] + 1000 * hold_s
        if found == PROVISIONED_START:
            _push_end(provisioned, used, ends)
            used += 1
        elif found != THROTTLE:
            _push_end(busy, busy_count, ends)
            busy_count += 1
        counted = 1.0 if first >= 0 else 0.0
        counters[PEAK] = max(counters[PEAK], counted * (busy_count + used))
        if is_ping:
            _count_ping(found, billed_ms, counted, counters)
            continue

        _count_call(found, billed_ms, calls[row, ANSWER], attempts, counted, busy_count + used - 1, counters)
        _count_use(rules.target, used, level, scalars)
        answered = now + (0.0 if found == THROTTLE else calls[row, LATENCY_S])
        if found != THROTTLE and calls[row, ANSWER] == CORRECT:
            latencies[bin_of(answered - first)] += counted
        else:
            retry_at = _retry(answered, first, attempts, rules, state, random)
    scalars[HEAD], scalars[IDLE], scalars[BUSY], scalars[BUSY_PROVISIONED] = head, idle_count, busy_count, used
    return index


def drain(
    rules: Rules,
    state: State,
    warm: Floats,
    cold: Floats,
    levels: Floats,
    random: np.random.Generator,
) -> None:
    """Play the retries that are still due, without further pings."""
    state.pings[:, 0] = math.inf
    while waiting := int(state.scalars[WAITING]):
        # One round for each attempt that callers have left.
        play(state.latencies[:0], float(state.waiting[:waiting, 0].max()), rules, state, warm, cold, levels, random)
