"""Migrations of a service's database: what is pending, what it would do, and doing it."""
