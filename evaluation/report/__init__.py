"""Pages from results. Measures nothing."""
