"""Cards: a refusal follows from card and amount alone."""

import pytest

from examples.travel.payment_cards import CARD_LIMITS, GOOD_CARDS, REFUSED_CARDS, refusal


@pytest.mark.parametrize("card", GOOD_CARDS)
def test_a_good_card_is_charged_whatever_the_amount(card: str) -> None:
    assert refusal(card, 10**9) is None


@pytest.mark.parametrize("card", REFUSED_CARDS)
def test_a_refused_card_is_never_charged(card: str) -> None:
    assert refusal(card, 1) == REFUSED_CARDS[card]


@pytest.mark.parametrize("card", CARD_LIMITS)
def test_a_prepaid_card_is_charged_up_to_its_limit(card: str) -> None:
    limit = CARD_LIMITS[card]
    assert refusal(card, limit) is None
    assert refusal(card, limit + 1) == "the amount is over the card's limit"
