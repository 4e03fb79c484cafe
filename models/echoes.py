"""Echoes in English captions: a noun phrase said again behind "and" or a preposition.

"a brown dog and a brown dog", "a man in a hat next to a man", and where one of the two is only
described more: "a white stove and a stove". "A brown dog and a white dog" is none, nor "a dog and
another dog". Knows words alone: no tensors, no probabilities, no images.

Captions are read word by word, by closed classes of words: a noun phrase ends where a word comes
that cannot go on with it, so that its last word is its head. Nouns themselves need no list.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import NamedTuple, Self

__all__ = ["EchoRules", "NoEcho", "has_echo"]

_DETERMINERS = """
a an the this that these those his her its their my our your some any no each every both all many
several few one two three four five six seven eight nine ten
"""
_JOINERS = """
about above across after against along alongside amid among amongst around at atop away back
before behind below beneath beside besides between beyond by down for from in inside into like near
nearby next of off on onto opposite or out outside over past through to together toward towards
under underneath up upon via with within without
"""
# Without a determiner, part of a joiner: "in front of a car", "on top of a hill", "side by side".
_PARTS_OF_JOINERS = "front side top"
_MODIFIERS = """
adult african american asian bald beautiful big black blond blonde blue bright brown busy close
colored colorful crowded curly cute dark dirty elderly empty female fluffy furry gray green grey
happy hispanic indian large light little long male middle-aged multicolored naked narrow new older
old open orange pink pretty purple red shirtless short silver single small spotted striped
sunny tall tan tiny tropical wet white wide wooden yellow young younger
"""
_ENDS = """
am are be been being is was were has have had do does did can could will would may might must
who which whose whom where when what there here it he she they them him we you i himself herself
itself themselves not as while so because if then than but very
dressed covered filled surrounded gathered topped lined seated attached stopped parked displayed
placed perched wrapped mounted raised served cooked docked stacked tied loaded suspended arranged
located curled posed headed propped pulled splashed crouched strapped
sit sits stand stands run runs hold holds play plays jump jumps look looks walk walks ride rides
watch watches take takes carry carries gather climb climbs pose poses make makes leap leaps lay lays
lie lies work works wear wears prepare prepares sleep sleeps chase chases pull pulls eat eats talk
talks lean leans use uses swing swings catch catches drive drives try tries get gets read reads
show shows push pushes give gives enjoy enjoys throw throws wait waits swim swims smile smiles stare
stares rest rests help helps reach reaches go goes hang hangs dance dances sing sings ski skis surf
surfs perform performs cut cuts kneel kneels sell sells drink drinks travel travels fly flies kick
kicks shake shakes hit hits fight fights blow blows follow follows cross crosses appear appears seem
seems rise rises asleep apart just only
"""
# Words that tell a second thing from the first.
_OTHERS = "another different other own second third"
# Words in -ing that name things or their kinds, and do not begin what someone does.
_NOUNS_IN_ING = """
being building bowling boxing camping ceiling clothing crossing dining fishing icing king landing
lighting living morning evening opening painting parking railing ring scaffolding serving shopping
sling spring string swimming swing thing wedding wing
"""


class _Role(Enum):
    """What a word does to the noun phrase before it."""

    CONTENT = auto()
    OTHER = auto()
    MODIFIER = auto()
    DETERMINER = auto()
    AND = auto()
    JOINER = auto()
    PART_OF_JOINER = auto()
    ACTION = auto()
    END = auto()


_DESCRIBING = (_Role.CONTENT, _Role.OTHER, _Role.MODIFIER)


def _role_table() -> dict[str, _Role]:
    table = {
        **dict.fromkeys(_ENDS.split(), _Role.END),
        **dict.fromkeys(_MODIFIERS.split(), _Role.MODIFIER),
        **dict.fromkeys(_JOINERS.split(), _Role.JOINER),
        **dict.fromkeys(_PARTS_OF_JOINERS.split(), _Role.PART_OF_JOINER),
        **dict.fromkeys(_DETERMINERS.split(), _Role.DETERMINER),
        **dict.fromkeys(_OTHERS.split(), _Role.OTHER),
        **dict.fromkeys(_NOUNS_IN_ING.split(), _Role.CONTENT),
    }
    return table | {"and": _Role.AND}


_ROLES = _role_table()


def _role_of(word: str) -> _Role:
    if word.startswith("<"):
        return _Role.END
    by_ending = _Role.ACTION if word.endswith("ing") else _Role.CONTENT
    return _ROLES.get(word, by_ending)


class EchoRules:
    """What the tokens of a vocabulary do to noun phrases; looked up once, for all captions."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """Take the tokens by their ids; those in angle brackets are no words."""
        self.roles = tuple(map(_role_of, tokens))

    def are_alike(self, first: Sequence[int], second: Sequence[int]) -> bool:
        """Tell whether modifiers of one head describe the same, one perhaps more than the other.

        The shorter ones must be the end of the longer, and what is before them must not say that
        it is another thing.
        """
        longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
        size = len(longer) - len(shorter)
        if any(self.roles[word] is _Role.OTHER for word in longer[:size]):
            return False
        return tuple(longer[size:]) == tuple(shorter)

    def begin(self) -> "NoEcho":
        """Begin a caption."""
        return NoEcho(self)


class _Phrase(NamedTuple):
    """A noun phrase without its determiner, as ids; whether it came behind a joiner."""

    words: tuple[int, ...]
    is_joined: bool


class NoEcho(NamedTuple):
    """A caption as read so far, which may not become an echo: a value, as `Constraint` asks.

    said: its noun phrases in order. words: those of the phrase that is open. is_joined: whether
    that one stands behind a joiner; is_bare: whether without a determiner.
    """

    rules: EchoRules
    said: tuple[_Phrase, ...] = ()
    words: tuple[int, ...] = ()
    is_joined: bool = False
    is_bare: bool = True

    def forbidden(self) -> Collection[int]:
        """List the words that would make the open phrase one that was said before."""
        if not self.is_joined:
            return ()
        return {
            phrase.words[-1]
            for phrase in self.said
            if self.rules.are_alike(phrase.words[:-1], self.words)
        }

    def after(self, token_id: int) -> Self:
        """Read one more word."""
        role = self.rules.roles[token_id]
        if role in _DESCRIBING:
            return self._replace(words=(*self.words, token_id))
        if role is _Role.ACTION and not self.words and not self.is_bare:
            return self._replace(words=(token_id,))  # "a swimming man"
        if role is _Role.AND and self._ends_with_modifier():
            return self._replace(words=(*self.words, token_id))  # "a black and white dog"
        if role is _Role.PART_OF_JOINER:
            if self.is_bare and self.is_joined and not self.words:
                return self
            return self._replace(words=(*self.words, token_id))
        return self._close(role)

    def has_echo(self) -> bool:
        """Tell whether one of the finished phrases is an echo."""
        for place, phrase in enumerate(self.said):
            *modifiers, head = phrase.words
            if phrase.is_joined:
                for earlier in self.said[:place]:
                    *others, same = earlier.words
                    if head == same and self.rules.are_alike(modifiers, others):
                        return True
        return False

    def _close(self, role: _Role) -> Self:
        """End the open phrase with a word that does not go on with it."""
        words = self.words
        if words and self.rules.roles[words[-1]] is _Role.AND:
            words = words[:-1]
        said = self.said
        if words and self.rules.roles[words[-1]] not in (_Role.MODIFIER, _Role.OTHER):
            said = (*said, _Phrase(words, self.is_joined))
        is_joined = role is _Role.AND or role is _Role.JOINER
        if role is _Role.DETERMINER:  # behind a joiner, or behind an "and" that went with modifiers
            is_joined = len(words) < len(self.words) or (self.is_joined and not words)
        is_bare = role is not _Role.DETERMINER
        return self._replace(said=said, words=(), is_joined=is_joined, is_bare=is_bare)

    def _ends_with_modifier(self) -> bool:
        return bool(self.words) and self.rules.roles[self.words[-1]] is _Role.MODIFIER


_END = "<end>"


def has_echo(words: Sequence[str]) -> bool:
    """Tell whether a caption, as `models.tokenizer.tokenize` gives it, has an echo."""
    tokens = [*words, _END]
    places: dict[str, int] = {}
    ids = [places.setdefault(token, len(places)) for token in tokens]
    caption = EchoRules(list(places)).begin()
    for token_id in ids:
        caption = caption.after(token_id)
    return caption.has_echo()
