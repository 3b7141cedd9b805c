"""The sale before the sale: a crowd of simulated buyers, what it must find, and the report."""
