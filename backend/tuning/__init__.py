"""Tuning: kernel templates and their parameters measured on the device, winners kept in a database that `compile` reads."""
