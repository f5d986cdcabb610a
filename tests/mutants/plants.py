"""All plants, in the order in which they are tried."""

from tests.mutants.plant import Plant
from tests.mutants.planted.acting import ACTS
from tests.mutants.planted.blaming import BLAMES
from tests.mutants.planted.bridging import BRIDGES
from tests.mutants.planted.causal import CAUSAL
from tests.mutants.planted.claiming import CLAIMS
from tests.mutants.planted.connecting import CONNECTIONS
from tests.mutants.planted.deciding import SAGAS
from tests.mutants.planted.forwarding import FORWARDS
from tests.mutants.planted.handling import HANDLERS
from tests.mutants.planted.leasing import LEASES
from tests.mutants.planted.reading import READING
from tests.mutants.planted.relaying import RELAY
from tests.mutants.planted.sending import SENDS

PLANTS: tuple[Plant, ...] = (
    *CLAIMS,
    *SENDS,
    *HANDLERS,
    *LEASES,
    *BLAMES,
    *RELAY,
    *SAGAS,
    *ACTS,
    *CAUSAL,
    *FORWARDS,
    *BRIDGES,
    *READING,
    *CONNECTIONS,
)
