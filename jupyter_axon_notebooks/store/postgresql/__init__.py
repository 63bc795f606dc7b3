"""Stores on PostgreSQL servers. Imported only for such stores: the driver is optional."""
