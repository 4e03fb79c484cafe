"""Which connection makes room for another: the one that has been idle longest, never a busy one."""

from hypothesis import given
from hypothesis import strategies as st

from app.core.addresses import TrustedProxies
from app.server.connections import PROBE_CONNECTIONS, Connections


class Line:
    def __init__(self, client_host: str = "192.0.2.1") -> None:
        self.client_host = client_host
        self.is_open = True
        self.is_writing = False

    def make_room(self) -> None:
        self.is_open = False


def table(most: int = 3, per_client: int = 0, proxies: str = "198.51.100.1") -> Connections:
    return Connections(
        max_connections=most, max_per_client=per_client, proxies=TrustedProxies([proxies])
    )


def filled(connections: Connections, *hosts: str) -> list[Line]:
    lines = [Line(host) for host in hosts]
    for line in lines:
        assert connections.make_room_for(line.client_host)
        connections.add(line)
    return lines


def test_longest_idle_connection_makes_room() -> None:
    connections = table()
    first, second, third = filled(connections, "a", "b", "c")
    connections.becomes_busy(first)
    connections.becomes_idle(first)  # has been idle for less long than the second now
    assert connections.make_room_for("d")
    assert [line.is_open for line in (first, second, third)] == [True, False, True]
    assert len(connections) == 2


def test_busy_connections_make_no_room() -> None:
    connections = table()
    for line in filled(connections, "a", "b", "c"):
        connections.becomes_busy(line)
    assert not connections.make_room_for("d")
    assert len(connections) == 3


def test_probes_have_places_of_their_own_where_all_others_are_busy() -> None:
    connections = table()
    for line in filled(connections, "a", "b", "c"):
        connections.becomes_busy(line)
    probes = [Line() for _ in range(PROBE_CONNECTIONS)]
    for probe in probes:
        assert not connections.make_room_for("d")
        assert connections.make_room_for_probe(probe.client_host)
        connections.add(probe)
    assert all(probe.is_open for probe in probes)
    assert connections.make_room_for_probe("d")
    assert [probe.is_open for probe in probes] == [False] + [True] * (PROBE_CONNECTIONS - 1)


def test_client_at_its_own_limit_makes_room_for_itself_alone() -> None:
    connections = table(most=10, per_client=2)
    first, second, other = filled(connections, "192.0.2.1", "192.0.2.1", "192.0.2.2")
    connections.becomes_busy(first)
    assert connections.make_room_for("192.0.2.1")
    assert [line.is_open for line in (first, second, other)] == [True, False, True]
    connections.add(third := Line("192.0.2.1"))
    connections.becomes_busy(third)
    assert not connections.make_room_for("192.0.2.1")
    assert connections.make_room_for("192.0.2.2")


def test_client_at_its_own_limit_has_one_probe_beside_and_no_more() -> None:
    connections = table(most=10, per_client=2)
    for line in filled(connections, "192.0.2.1", "192.0.2.1"):
        connections.becomes_busy(line)
    assert not connections.make_room_for("192.0.2.1")
    assert connections.make_room_for_probe("192.0.2.1")
    connections.add(probe := Line("192.0.2.1"))
    connections.becomes_busy(probe)
    assert not connections.make_room_for("192.0.2.1")
    assert not connections.make_room_for_probe("192.0.2.1")
    assert connections.make_room_for_probe("192.0.2.2")


def test_connection_whose_answer_is_on_its_way_makes_no_room() -> None:
    connections = table()
    first, second, third = filled(connections, "a", "b", "c")
    first.is_writing = True
    assert connections.make_room_for("d")
    assert [line.is_open for line in (first, second, third)] == [True, False, True]
    connections.add(fourth := Line("d"))
    third.is_writing = fourth.is_writing = True
    assert not connections.make_room_for("e")
    assert first.is_open


def test_network_of_ipv6_is_one_client() -> None:
    connections = table(most=10, per_client=1)
    (first,) = filled(connections, "2001:db8::1")
    assert connections.make_room_for("2001:db8::ffff:1")
    assert not first.is_open


def test_trusted_proxy_has_no_limit_of_its_own() -> None:
    connections = table(most=10, per_client=1)
    lines = filled(connections, *["198.51.100.1"] * 5)
    assert all(line.is_open for line in lines)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["busy", "idle", "gone"]))))
def test_connections_never_exceed_the_limit_whatever_happens(events: list[tuple[str, str]]) -> None:
    connections = table(most=3, per_client=2)
    lines: list[Line] = []
    for host, event in events:
        line = Line(host)
        if connections.make_room_for(host):
            connections.add(line)
            lines.append(line)
        if event == "busy":
            connections.becomes_busy(line)
        elif event == "idle" and lines:
            connections.becomes_idle(lines[0])
        elif lines:
            gone = lines.pop(0)
            connections.discard(gone)
            connections.discard(gone)
        assert len(connections) <= 3
    for line in lines:
        connections.discard(line)
    assert len(connections) == 0
