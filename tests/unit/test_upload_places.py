"""Places and memory of uploads: never more than the limits, and all given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.upload_places import Place, UploadPlaces
from app.core.errors import BusyError, TooManyUploadsError, UploadMemoryFullError
from app.core.metrics import Metrics

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def places(metrics: Metrics, *, per_client: int = 0, memory_bytes: int = 1000) -> UploadPlaces:
    return UploadPlaces(
        max_uploads=4,
        max_per_client=per_client,
        memory_bytes=memory_bytes,
        max_upload_bytes=300,
        metrics=metrics,
    )


def gauge(metrics: Metrics, name: str) -> float:
    value = metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def test_client_has_at_most_half_of_the_places_unless_told_otherwise() -> None:
    some = places(Metrics())
    for _ in range(2):
        some.take(ONE, 0)
    with pytest.raises(TooManyUploadsError, match="2 uploads are being received from this address"):
        some.take(ONE, 0)
    some.take(OTHER, 0)
    more = places(Metrics(), per_client=4)
    for _ in range(4):
        more.take(ONE, 0)
    with pytest.raises(TooManyUploadsError, match="4 uploads are being received already"):
        more.take(OTHER, 0)


def test_upload_that_has_arrived_gives_its_place_back_and_keeps_its_bytes() -> None:
    metrics = Metrics()
    some = places(metrics)
    for _ in range(10):
        place = some.take(ONE, 10)
        place.hold(10)
        place.arrived()
    assert gauge(metrics, "glimpse_uploads_arriving") == 0
    assert gauge(metrics, "glimpse_upload_memory_bytes") == 100


def test_client_has_at_most_half_of_the_memory() -> None:
    some = places(Metrics())
    some.take(ONE, 300).hold(300)
    with pytest.raises(UploadMemoryFullError):
        some.take(ONE, 201)
    place = some.take(ONE, 0)  # announces nothing
    place.hold(200)
    with pytest.raises(UploadMemoryFullError):
        place.hold(1)
    some.take(OTHER, 300).hold(300)


def test_one_upload_of_the_largest_size_always_fits_into_memory_that_is_empty() -> None:
    some = places(Metrics(), memory_bytes=300)
    some.take(ONE, 300).hold(300)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "hold", "arrive", "leave"]),
            st.sampled_from([ONE, OTHER, "2001:db8::1", "2001:db8::2"]),
            st.integers(0, 400),
        )
    )
)
def test_limits_hold_whatever_happens(events: list[tuple[str, str, int]]) -> None:
    metrics = Metrics()
    some = places(metrics)
    taken: list[Place] = []
    for event, host, size_bytes in events:
        try:
            if event == "take":
                taken.append(some.take(host, size_bytes))
            elif taken and event == "hold":
                taken[0].hold(size_bytes)
            elif taken and event == "arrive":
                taken[-1].arrived()
            elif taken:
                taken.pop(0).leave()
        except BusyError:
            continue
        assert gauge(metrics, "glimpse_uploads_arriving") <= 4
        assert gauge(metrics, "glimpse_upload_memory_bytes") <= 1000
    for place in taken:
        place.leave()
    assert gauge(metrics, "glimpse_uploads_arriving") == 0
    assert gauge(metrics, "glimpse_upload_memory_bytes") == 0
