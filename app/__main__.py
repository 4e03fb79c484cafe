"""`python -m app` is `glimpse`."""

from app.cli import main

if __name__ == "__main__":
    main()
