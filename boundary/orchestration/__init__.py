"""The orchestrator of sagas: it stores what `saga.decide` decides."""
