"""Pages from results: they caption and draw what they show, and measure nothing."""
