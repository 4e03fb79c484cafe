"""From the machine's sockets to the application: who may connect, and for how long."""
