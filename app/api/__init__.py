"""The HTTP layer: what comes in, what goes out, and what is said when it cannot. Never imports
torch."""
