"""The travel agent: one saga at the boundary, seven contexts inside, the flights of a real day.

- `day`: reads the file of a day's flights and the aircraft behind them.
- `trips`: makes the trips that travellers ask for, always the same for one file and seed.
- `payment_cards`: the test cards, and which of them a charge is refused to.
- `messages`: everything the saga and the contexts say to each other.
- `booking`: the saga `book_trip`, a value made of pure functions.
- `contexts`: flights, seating, hotels, cars, payments, loyalty and documents, with their tables.
- `found`: reads those tables, the one place that looks across contexts.
- `checks`: tells from what is found whether anything was lost or done twice.
"""
