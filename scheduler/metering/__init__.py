"""Metering: the ledger of what sessions and tenants have used."""
