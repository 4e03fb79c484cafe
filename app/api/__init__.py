"""The HTTP layer: what comes in, what goes out, and what is said when it cannot. Names no torch;
of the library it knows captions, configurations and errors."""
