"""Glimpse's library: an image in, a caption and its attention out.

Knows no web framework and reads no environment.

Letters in shapes, everywhere in it:

    B images             G captions an image       R = B x G rows, grouped by image: row r is of
    K beams              T time: words             image r // G; in decoding, R = B x K
    P words before       V vocabulary
    H, W pixels          S side of the input, in pixels
    L locations          D encoder features        A attention units
    E embedding          N hidden units            M heads
"""
