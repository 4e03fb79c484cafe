"""A caption in a photo's own metadata (XMP), with its pixels untouched. Bytes in, bytes out; knows
no models, no captions but their text, and no HTTP."""
