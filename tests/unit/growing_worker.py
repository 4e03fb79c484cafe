"""A decoder process that finds itself too large after each large decode."""

from app.engine import decode_worker

if __name__ == "__main__":
    decode_worker._KEPT_BYTES = -(10**12)
    decode_worker.main()
