"""What a parcel holds comes back as it was."""

from datetime import timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from internals.remote.results import Parcel, context_of, parcels_of
from internals.store.delivery import DeliveryOutcome, DeliveryState, Settlement
from saga import Category, Envelope, Retry

TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
IDS = st.none() | st.uuids()

ENVELOPES = st.builds(
    Envelope,
    id=st.uuids(),
    kind=st.just("mill.ground"),
    category=st.sampled_from(Category),
    payload=st.sampled_from(
        ["{}", '{"a": 1.10, "b": "\\u00bd ½ \\\\", "c": 12345678901234567890}']
    ),
    saga_id=IDS,
    saga=TEXTS,
    causation_id=IDS,
    root_id=IDS,
    recipient=TEXTS,
    sender=TEXTS,
    awaits=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    retry=st.none() | st.just(Retry(attempts=3, backoff=timedelta(seconds=2), never=("a",))),
    delay=st.floats(0, 1e6),
)

SETTLEMENTS = st.builds(
    Settlement,
    st.uuids(),
    st.sampled_from(DeliveryState),
    st.sampled_from(DeliveryOutcome),
    error=TEXTS,
    attempts=st.integers(0, 99),
    took=st.none() | st.floats(0, 1e6),
)


@given(SETTLEMENTS, st.lists(ENVELOPES, max_size=3).map(tuple), st.booleans())
def test_it_comes_back_equal(
    settlement: Settlement, sent: tuple[Envelope, ...], refuses: bool
) -> None:
    parcel = Parcel(settlement, sent, refuses)
    assert Parcel.from_json(parcel.to_json()) == parcel


def test_an_error_is_cut_and_storable() -> None:
    parcel = Parcel(Settlement(uuid4(), error="\0" + "x" * 5000), ())
    error = Parcel.from_json(parcel.to_json()).settlement.error
    assert error is not None
    assert len(error) == 2000
    assert error.startswith("\\0")


def test_its_consumer_belongs_to_the_context() -> None:
    assert context_of(parcels_of("mill")) == context_of("mill") == "mill"
