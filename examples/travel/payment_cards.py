"""Payment cards: the numbers that payment providers publish for tests, and what becomes of them.

Whether a charge is refused follows from the card and the amount alone, never from chance, so a
trip ends the same way however often it is tried.  No number here belongs to anyone; a real
application keeps a provider's token instead.
"""

from collections.abc import Mapping

#: Always charged.
GOOD_CARDS: tuple[str, ...] = (
    "4242424242424242",
    "5555555555554444",
    "378282246310005",
    "6011111111111117",
)

#: Never charged, and why.
REFUSED_CARDS: Mapping[str, str] = {
    "4000000000000002": "the bank refused the card",
    "4000000000009995": "there are insufficient funds",
    "4000000000000069": "the card has expired",
}

#: Prepaid cards: charged up to so many cents.
CARD_LIMITS: Mapping[str, int] = {"5105105105105100": 60_000}


def refusal(card: str, amount_cents: int) -> str | None:
    """Return why a charge is refused, or None when it is not."""
    if card in REFUSED_CARDS:
        return REFUSED_CARDS[card]
    if amount_cents > CARD_LIMITS.get(card, amount_cents):
        return "the amount is over the card's limit"
    return None
