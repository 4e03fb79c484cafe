r"""Split captions into words as the coco-caption metrics do, without Java.

The published figures of captioning are computed on the words of the Stanford PTB tokenizer (3.4.1,
lower-cased), without punctuation marks. These are its rules as far as captions need them, written
after comparing with it on several hundred thousand captions by people. At each place the longest of
the kinds below wins, and the first of equally long ones; a lookahead counts into the length. One
thing is left out: that tokenizer reads the captions of a whole set as one text, so a lone letter or
"art." at the very end of a caption depends on how the next one begins. Knows no scores.
"""

import re
from functools import lru_cache

__all__ = ["tokenize_ptb"]

_DROPPED = frozenset(["", "''", "'", "``", "`", "?", "!", ",", ":", "-", "--", ";"])
_SPELLED: dict[str, str] = {
    **{"[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "€": "$", "£": "#", "¢": "cents"},
    **{"½": "1/2", "¼": "1/4", "¾": "3/4", "\u2153": "1/3", "\u2154": "2/3"},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", '"': "''"},
    **dict.fromkeys("\u201c\u201d\xab\xbb", "''"),
    **dict.fromkeys("\u2018\u2019\u2039\u203a\x91\x92", "'"),
    "\u2026": "",
    **dict.fromkeys(["\u2013", "\u2014", "\u2015", "---", "----"], "--"),
}
"""How some marks are written. coco-caption drops brackets in capitals only, so the lower-case
`-lrb-` stays a word."""

_ABBREVIATIONS = (
    "adj adm adv al ala apr ariz assn assoc asst atty aug ave bancorp bhd bldg blvd brig bros "
    "calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det drs? elec ens "
    "esq est etc ext feb fla fri ft ga gen gov hon inc ind insp intl jan jos jr jul jun kans? ky "
    "lieut lt ltd maj mar md messrs mfg mich minn mme mo mont? mrs? ms msgr mt mtg natl neb nev "
    "nov oct okla penn pfc plc pres prof pte pty ptys pvt rd rep rev rt sens? sept? seq sfc sgt "
    "spc sq sr ste? supt sys tel tenn thu thurs treas tues? univ va vs vt wed wis wisc wm wyo "
    "ph\\.d ph"
)
_CAPITAL_ABBREVIATIONS = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_NUMBER_ABBREVIATIONS = "art ca figs? nos? op pp? prop"
_SENTENCE_STARTS = (
    "a about according after an as at but earlier he her here however if in it last many more now "
    "once one other our she since so some such that the their then there these they this we what "
    "when while yet you"
)


def _any(words: str) -> str:
    return "|".join(words.split())


_ABBREVIATION = f"(?:(?i:{_any(_ABBREVIATIONS)})|{_any(_CAPITAL_ABBREVIATIONS)})"
_STARTS = f"(?=[A-Z])(?i:{_any(_SENTENCE_STARTS)})"
_COMPOUNDS = {"cannot": 3, "gonna": 3, "gotta": 3, "gimme": 3, "lemme": 3, "wanna": 3}

# letters, without ² or ½
_L = r"(?:[^\W\d_\xb2\xb3\xb9\xbc-\xbe\u2070-\u2089\u2150-\u218b\u2460-\u249b])"
_A = "['\u2019\x92]"
_N = rf"(?:{_L}|\d)"
_WORD = rf"{_L}{_N}*(?:[.!?]{_L}{_N}*)*"
_OF = rf"[dDoOlL]{_A}[A-Za-z0-9]{{2,}}"
_HYPHENATED = rf"{_N}(?:{_N}|[.,])*(?:[-\u2010\u2011](?:{_OF}|(?:[A-Za-z]\.)+[A-Za-z]\.|{_N}+))+"
_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_CAPITALS = r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+"
_KINDS = [
    # markup, addresses
    r"(</?[A-Za-z][\w:.-]*(?: [A-Za-z][\w:.-]*(?:=(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))?)* ?/?>)",
    r"(<[A-Za-z0-9][^\s\"<>|(){}]*@[^\s\"<>|(){}]+>)",
    r"(https?://[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-])",
    r"((?:[A-Za-z0-9-]+\.)+(?:com|net|org|edu)/[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-])",
    r"([A-Za-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}\[\].,;:]+)",
    # words that are cut in two: cannot, 'tis, more'n, dog's, don't, y'all
    *(rf"((?i:{word[:at]}))((?i:{word[at:]}))" for word, at in _COMPOUNDS.items()),
    rf"('(?i:t))((?i:was|is))(?!{_L})",
    rf"((?i:more))({_A}(?i:n))(?!{_L})",
    rf"({_WORD}){_A}(?i:[msd]|re|ve|ll)",
    r"([A-Za-z]*[A-MO-Za-mo-z])[nN]['\u2019`][tT]",
    r"([nN]['\u2019`][tT])(?![A-Za-z])",
    r"('(?i:[msd]|re|ve|ll))(?:[^A-Za-z]|$)",
    r"([\u2019\x92](?i:[msd]|re|ve|ll))",
    rf"([yY]{_A}){_L}",
    # words with an apostrophe of their own: 'em, o'clock, N'Sync, Xi'an, '09, O'Neill
    rf"([lLdDjJ]{_A}|(?i:ol|dunkin|somethin){_A}|{_A}(?i:n){_A}?|{_A}(?i:em|till?|cause)|{_A}[2-9]0s)",
    rf"((?i:c{_A}mon|o{_A}clock|[eo]{_A}er|li{_A}l|s{_A}mores)|[A-HJ-XZn]{_A}{_L}{{2,}})",
    rf"({_L}+[aeiouyAEIOUY]{_A}[aeiouA-Z]{_L}*)",
    rf"({_A}[0-9][0-9])(?: |$)",
    rf"({_OF})",
    # joined words: R&B, C++, and/or, T-shirt, Connect_Anywhere
    rf"({_CAPITALS}|[Cc]\+\+|[CcFf]#)",
    rf"({_PART}(?:/{_PART}){{1,2}})",
    rf"({_HYPHENATED})",
    rf"({_N}+(?:_{_N}+)+)",
    # numbers: 1 1/2, 555-1234, 555.123.4567, -1,000.5
    r"((?:[0-9]{1,4}[- ])?[0-9]{1,4}[/\u2044][0-9]{1,4})",
    r"((?:\([0-9]{2,3}\) ?|(?:\+\+?)?(?:[0-9]{2,4}[- ])?[0-9]{2,4}[- ])[0-9]{3,4}[- ]?[0-9]{3,5})",
    r"((?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5})",
    r"([-+]?(?:[0-9]*(?:[.:,][0-9]+)+|[0-9]+))",
    # words that keep their full stop: U.S., Dr., no. 5, J.; and any word before ".,"
    r"((?:[A-Za-z]\.)+[A-Za-z]\.)",
    rf"({_ABBREVIATION}\.)",
    rf"((?i:{_any(_NUMBER_ABBREVIATIONS)})\.) ?[0-9]",
    rf"([A-Za-z])\.(?: {_STARTS}(?: |$)|$)",
    r"([A-Za-z]\.)",
    rf"((?:{_WORD}|{_HYPHENATED}|{_CAPITALS}|[0-9]+)\.)[,;:]",
    # plain words, marks of all sorts
    rf"({_WORD})",
    rf"({_N}+)",
    rf"(@[A-Za-z_][A-Za-z_0-9]*|#{_L}+|&#[0-9]+;)",
    r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])(?:[^A-Za-z]|$)",
    r"(\^_\^|=_=|~_~|-_-|<_<|>_>)",
    r"([A-Z]*\$)",
    r"(')[A-Za-z][^\s]",
    r"(&(?:amp|lt|gt|quot);)",
    r"(\.(?: \.){2,}|\.{3,}|-{2,}|[!?]+|''|``|\*+|_+|@@+|##+|<<|>>)",
    r"(\S)",
]
_RULES = [re.compile(kind) for kind in _KINDS]
_SPACE = re.compile(r"(?:\s|&nbsp;)+")
_PLAIN = re.compile(r"([A-Za-z]{2,})(?:,?(?= )|\.?$)")
_ABBREVIATED = re.compile(_ABBREVIATION)
_CLITIC = re.compile("n?[\u2019\x92](?:[msdt]|re|ve|ll)")


@lru_cache(maxsize=1 << 16)
def _words(caption: str) -> tuple[str, ...]:
    text = _SPACE.sub(" ", caption.replace("\xad", "").replace("&apos;", "'")).strip()
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
        elif (plain := _PLAIN.match(text, at)) and _is_plain(plain):
            words.append(plain[1].lower())
            at = plain.end()
        else:
            best = max(
                (match for rule in _RULES if (match := rule.match(text, at))),
                key=lambda match: match.end(),
            )
            words.extend(_spell(group) for group in best.groups() if group)
            at = best.end(len(best.groups()))
    return tuple(word for word in words if word not in _DROPPED)


def _is_plain(match: re.Match[str]) -> bool:
    """Tell whether only the rule for words can apply: no abbreviation, no compound."""
    return match[1].lower() not in _COMPOUNDS and not (
        match[0].endswith(".") and _ABBREVIATED.fullmatch(match[1])
    )


def _spell(token: str) -> str:
    if token in _SPELLED:
        return _SPELLED[token]
    word = token.lower().replace("&amp;", "&").replace("(", "-lrb-").replace(")", "-rrb-")
    if _CLITIC.fullmatch(word):
        return word.replace("\u2019", "'").replace("\x92", "'")
    return word.strip(" .") and word.replace(" ", "\xa0")


def tokenize_ptb(caption: str) -> list[str]:
    """Split a caption into lower-case words without punctuation marks, as coco-caption does."""
    return list(_words(caption))
