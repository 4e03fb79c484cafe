"""What the commands that need no server do. `app.cli` reads their arguments and imports each when
it is called, as they import PyTorch."""
