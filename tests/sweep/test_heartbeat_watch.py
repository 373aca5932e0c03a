"""How long heartbeats are silent, by the clock of the process that looks."""

from pneumo.sweep.heartbeat_watch import HeartbeatWatch


def test_a_heartbeat_is_silent_since_it_was_first_seen_as_it_is():
    now = [100.0]
    watch = HeartbeatWatch(clock=lambda: now[0])
    assert watch.silent_seconds({1: "12:00", 2: "15:00"}) == {1: 0, 2: 0}
    now[0] = 107
    assert watch.silent_seconds({1: "12:00", 2: "15:01"}) == {1: 7, 2: 0}
    now[0] = 110
    assert watch.silent_seconds({1: "11:00", 2: "15:01", 3: "9:00"}) == {1: 0, 2: 3, 3: 0}, "back is a change"
