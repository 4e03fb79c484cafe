"""Which words name which object: the 80 categories of COCO in people's words. Knows strings alone.

`CATEGORY_WORDS` lists what people call each category, in the singular; plurals, hyphens
("teddy-bear") and possessives ("the cat's face") follow by rule. Of a word with several meanings
the one that captions mean most decides; a word that says too little ("plant", "bag", "board",
"glass", "scooter", or "orange", a color first) is left out. Longer phrases go before shorter ones:
that of "teddy bear" is no bear. `_NO_OBJECTS` are phrases that name no object of the 80 though one
of their words would.
"""

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["CATEGORY_WORDS", "categories_of"]

_NAMES = {
    "person": (
        "person, people, human, man, woman, boy, girl, child, kid, baby, toddler, infant, lady, "
        "guy, gentleman, adult, teenager, teen, youth, male, female, friend, player, rider, "
        "surfer, skier, snowboarder, skateboarder, skater, cyclist, bicyclist, biker, "
        "motorcyclist, batter, umpire, goalie, golfer, swimmer, runner, jogger, climber, hiker, "
        "dancer, athlete, racer, wrestler, performer, musician, chef, waiter, waitress, bride, "
        "groom, officer, policeman, policewoman, fireman, firefighter, soldier, cowboy, worker, "
        "driver, passenger, pedestrian, tourist, student, spectator, fisherman, mother, father, "
        "mom, dad, grandmother, grandfather, brother, sister, son, daughter, husband, wife, "
        "businessman, businesswoman"
    ),
    "bicycle": "bicycle, bike",
    "car": "car, automobile, sedan, taxi, suv, jeep, minivan",
    "motorcycle": "motorcycle, motorbike, motor bike, motor cycle, moped, dirt bike, motor scooter",
    "airplane": (
        "airplane, plane, passenger plane, aeroplane, aircraft, airliner, jetliner, jet, "
        "passenger jet, biplane, seaplane"
    ),
    "bus": "bus, minibus, passenger bus",
    "train": "train, passenger train, locomotive, tram",
    "truck": "truck, lorry, pickup, pick up truck, firetruck",
    "boat": (
        "boat, ship, canoe, kayak, sailboat, ferry, yacht, rowboat, gondola, speedboat, motorboat, "
        "catamaran, dinghy, tugboat, passenger boat"
    ),
    "traffic light": "traffic light, traffic signal, stoplight, stop light",
    "fire hydrant": "fire hydrant, hydrant",
    "stop sign": "stop sign",
    "parking meter": "parking meter",
    "bench": "bench",
    "bird": (
        "bird, duck, duckling, goose, pigeon, seagull, gull, parrot, owl, eagle, swan, crow, "
        "sparrow, flamingo, peacock, pelican, penguin, hummingbird, ostrich, hawk, rooster, hen, "
        "parakeet, heron, stork, woodpecker"
    ),
    "cat": "cat, kitten, kitty",
    "dog": (
        "dog, puppy, pup, doggy, poodle, dachshund, terrier, labrador, retriever, bulldog, collie, "
        "greyhound, beagle, husky, dalmatian, chihuahua, pug, german shepherd, sheepdog, hound, "
        "pit bull"
    ),
    "horse": "horse, pony, foal, colt, mare, stallion",
    "sheep": "sheep, lamb, ewe, ram",
    "cow": "cow, cattle, bull, calf, ox, heifer",
    "elephant": "elephant",
    "bear": "bear, panda, grizzly",
    "zebra": "zebra",
    "giraffe": "giraffe",
    "backpack": "backpack, back pack, knapsack, rucksack",
    "umbrella": "umbrella, parasol",
    "handbag": "handbag, hand bag, purse, pocketbook",
    "tie": "tie, necktie, neck tie, bowtie",
    "suitcase": "suitcase, suit case, luggage",
    "frisbee": "frisbee, flying disc, flying disk",
    "skis": "skis, ski",
    "snowboard": "snowboard, snow board",
    "sports ball": "ball",
    "kite": "kite",
    "baseball bat": "baseball bat, bat",
    "baseball glove": "baseball glove, baseball mitt, mitt",
    "skateboard": "skateboard, skate board, longboard",
    "surfboard": "surfboard, surf board",
    "tennis racket": "tennis racket, tennis racquet, racket, racquet",
    "bottle": "bottle",
    "wine glass": "wine glass, wineglass, glass of wine, glass of red wine, glass of white wine",
    "cup": "cup, mug, teacup",
    "fork": "fork",
    "knife": "knife",
    "spoon": "spoon",
    "bowl": "bowl",
    "banana": "banana",
    "apple": "apple",
    "sandwich": "sandwich, burger, hamburger, cheeseburger, panini",
    "orange": "oranges, tangerine, clementine",
    "broccoli": "broccoli",
    "carrot": "carrot",
    "hot dog": "hot dog, hotdog",
    "pizza": "pizza",
    "donut": "donut, doughnut",
    "cake": "cake, cupcake, cheesecake, carrot cake",
    "chair": "chair, armchair",
    "couch": "couch, sofa, loveseat, love seat, futon",
    "potted plant": "potted plant, potted flower, potted tree, houseplant, house plant",
    "bed": "bed",
    "dining table": "dining table, dining room table, dinner table, kitchen table, table",
    "toilet": "toilet, toilet bowl, toilet seat",
    "tv": (
        "tv, television, tv set, television set, flat screen tv, flat screen television, "
        "flat screen, monitor, computer monitor, computer screen"
    ),
    "laptop": "laptop, laptop computer, macbook",
    "mouse": "mouse, computer mouse",
    "remote": "remote, remote control, controller, tv remote, television remote, wiimote",
    "keyboard": "keyboard, computer keyboard",
    "cell phone": "cell phone, cellphone, mobile phone, cellular phone, phone, smartphone, smart "
    "phone, iphone",
    "microwave": "microwave, microwave oven",
    "oven": "oven, stove, stove top, stovetop, pizza oven",
    "toaster": "toaster",
    "sink": "sink, washbasin, wash basin",
    "refrigerator": "refrigerator, fridge",
    "book": "book, textbook",
    "clock": "clock",
    "vase": "vase",
    "scissors": "scissors, pair of scissors",
    "teddy bear": "teddy bear, stuffed bear, stuffed teddy bear, teddy",
    "hair drier": "hair drier, hair dryer, hairdryer, blow dryer",
    "toothbrush": "toothbrush, tooth brush",
}
CATEGORY_WORDS: Mapping[str, tuple[str, ...]] = {
    name: tuple(words.split(", ")) for name, words in _NAMES.items()
}

_NO_OBJECTS = (
    "hot dog stand, hot dog bun, corn dog, dog bed, dog house, dog food, dog leash, dog collar, "
    "cat bed, cat food, bird house, bird feeder, bird bath, rocking horse, bear statue, "
    "horse statue, train track, train station, train platform, bus stop, bus station, cable car, "
    "car seat, car park, car door, car window, truck bed, boat dock, boat house, jet ski, "
    "ski lift, ski slope, ski resort, ski pole, ski jump, ski suit, ski trail, ski lodge, "
    "ski gear, ski boot, ski mask, ski hill, ski run, ski course, ski goggles, ski jacket, "
    "ski down, skis down, skis through, skis over, snowboards down, snowboards over, "
    "skateboards down, skateboard ramp, skateboard park, skateboard trick, kite board, "
    "kite surfer, kite surfing, ball field, ball game, ball park, ball cap, ball pit, ball gown, "
    "tie dye, tie dyed, tie up, tie a, tie the, tie his, tie her, ties a, ties the, ties his, "
    "ties her, bottle opener, cup holder, banana bread, banana split, apple pie, apple juice, "
    "apple computer, pizza box, pizza cutter, pizza parlor, chair lift, wheel chair, flower bed, "
    "bed of, bed sheet, bed frame, pool table, table tennis, table cloth, coffee table, "
    "ping pong table, end table, side table, toilet paper, toilet brush, tv stand, "
    "television stand, tv show, mickey mouse, mouse pad, remote area, remote location, "
    "piano keyboard, phone booth, pay phone, toaster oven, oven mitt, book shelf, book case, "
    "book bag, book store, baby carriage, baby stroller, baby food, man made"
)

_YOUNG = ("baby", "adult", "male", "female", "mother")  # of an animal: no person
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_SAME = (
    "people",
    "sheep",
    "cattle",
    "luggage",
    "broccoli",
    "skis",
    "scissors",
    "aircraft",
    "oranges",
)
_IRREGULAR = {
    "human": "humans",
    "german": "germans",
    "child": "children",
    "goose": "geese",
    "ox": "oxen",
}
_IRREGULAR |= {"mouse": "mice", **{word: word for word in _SAME}}


def categories_of(tokens: Sequence[str]) -> list[tuple[int, str]]:
    """Find the categories that a caption names, longest phrases first: (position, category).

    tokens are lower-case, as `tokenize` gives them. The position is that of the phrase's last word,
    its head.
    """
    found = []
    position = 0
    while position < len(tokens):
        length, category = _longest(tokens, position)
        if category is not None:
            found.append((position + length - 1, category))
        position += length
    return found


def _longest(tokens: Sequence[str], position: int) -> tuple[int, str | None]:
    """Find the longest known phrase from `position` on: its length, and its category or None."""
    for length in range(min(_LONGEST, len(tokens) - position), 0, -1):
        *first, last = tokens[position : position + length]
        phrase = " ".join((*first, last.removesuffix("'s").removesuffix("'"))).replace("-", " ")
        if phrase in _CATEGORIES:
            return length, _CATEGORIES[phrase]
    return 1, None


def _plural(phrase: str) -> str:
    """Put a phrase's last word into the plural."""
    first, space, word = phrase.rpartition(" ")
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    elif word.endswith("man"):
        word = f"{word[:-3]}men"
    elif word.endswith("fe") and not word.endswith("ffe"):  # knives, but giraffes
        word = f"{word[:-2]}ves"
    elif word.endswith("lf"):
        word = f"{word[:-1]}ves"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        word = f"{word[:-1]}ies"
    else:
        word += "es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return first + space + word


def _phrases() -> Iterator[tuple[str, str | None]]:
    for other in _NO_OBJECTS.split(", "):
        yield other, None
        yield _plural(other), None
    for category in _ANIMALS:
        for word in CATEGORY_WORDS[category]:
            for young in _YOUNG:
                yield f"{young} {word}", category
                yield f"{young} {_plural(word)}", category
    for category, words in CATEGORY_WORDS.items():
        for word in words:
            yield word, category
            yield _plural(word), category


_CATEGORIES = dict(_phrases())
_LONGEST = max(len(phrase.split()) for phrase in _CATEGORIES)
