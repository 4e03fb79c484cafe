"""What every layer of the service uses: settings, logs, metrics, errors.

Knows no HTTP and no models.
"""
