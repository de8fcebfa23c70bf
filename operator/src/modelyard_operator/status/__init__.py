"""Pure: from facts to conditions and status. The clock is an argument."""
