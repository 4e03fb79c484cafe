"""From an English caption to the same in another language, and which words came from which.

Knows no images, no web framework and no environment. Letters in shapes, everywhere in it:

    B sentences          G translations of one     R = B x G rows, grouped by sentence
    L source subwords    T target subwords         K beams
    D encoder features   E embedding               N hidden units            V vocabulary
"""
