"""How matching models learn: experiments, batches, losses, and the loop."""
