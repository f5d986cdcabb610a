"""What operators, and hosts, read of sagas, deliveries and the audit.  Nothing here writes."""
