"""The words and shapes that the rules look for."""

from __future__ import annotations

import re

_AUXILIARIES = """
    is are was were am be do does did can could cannot will would shall should may might must
    has have had ought need isn aren wasn weren don doesn didn couldn won wouldn shouldn mustn
    hasn haven hadn
"""
AUXILIARIES = frozenset(_AUXILIARIES.split())
ASKS_FOR_MORE = frozenset({"what", "which", "who", "whom", "whose", "why", "how"})

# Words that open a clause before the question itself, as in "In adults with asthma does ...".
_OPENERS = """
    in among for after before during following at on with without within when where if given
    compared between by under since once beyond as from to of despite while regarding concerning
"""
OPENERS = frozenset(_OPENERS.split())
CLAUSE_END = re.compile(r"[,:;\u2013\u2014]|\.\s|--|\s-\s")

MARKUP = re.compile(
    r"</?[a-zA-Z!][^<>]{0,200}>|```|https?://|\*\*|__|\{\{|\$\{|<\||\|>|\]\(|^\s*#"
    r"|\\[a-zA-Z]+\{|javascript:|\bon(?:error|load|click|mouseover|focus)\s?=",
    re.IGNORECASE,
)
# Published shapes of keys: OpenAI, GitHub, Hugging Face, AWS, Google, Slack, JSON web tokens, PEM.
SECRET = re.compile(
    r"\bsk-[\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bhf_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}|\bxox[abprs]-[\w-]{10,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.|-----BEGIN "
)

# Phrases are compared in folded form: lower case, no punctuation, so "I can't" is "i can t".
REFUSALS = (
    "as an ai",
    "as a language model",
    "as a large language model",
    "i cannot",
    "i can t",
    "i am unable",
    "i m unable",
    "i am sorry",
    "i m sorry",
    "i apologize",
)
PROMPT_WORDS = (
    "the abstract",
    "this abstract",
    "above abstract",
    "the passage",
    "this passage",
    "the given text",
    "the provided",
    "the text above",
    "yes no or maybe",
    "yes or no",
    "the original question",
    "rewritten question",
    "new question",
    "previous instructions",
    "prior instructions",
    "system prompt",
)
READER = frozenset({"you", "your", "yours", "yourself"})
GIVEAWAY_PHRASES = ("answer is", "answer was", "correct answer")
# "No difference was found" claims nothing: the word has to stand for itself.
BEGINS_WITH_ANSWER = re.compile(r"\W{0,3}(yes|no|maybe)\s?[,.:;!\u2013\u2014]", re.IGNORECASE)
GIVEAWAY_WORDS = frozenset({"yes", "maybe"})
_FINDINGS = (
    r"(?:the|this|these|our) (?:present |current )?"
    r"(?:study|trial|results?|data|authors?|findings?|analysis)"
)
REPORTED = re.compile(
    rf"\b(?:as|since|because|given that|considering that) {_FINDINGS} "
    r"(?:show|find|found|suggest|demonstrat|conclud|indicat|report|prov|confirm)\w*"
    r"|\bas (?:shown|demonstrated|reported|concluded|found|proven|confirmed) (?:in|by) "
    rf"{_FINDINGS}"
)

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NUMBER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty
"""
ORDINALS = {"first": "1", "second": "2", "third": "3"}
CARDINALS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS.split())} | {"twice": "2"}
# "Once they are treated" counts nothing, so that "once" stands in no number's place.
NUMBER_WORDS = CARDINALS | ORDINALS | {"once": "1"}

# A denial of the whole sentence, and everything that may stand for one: words, and beginnings of
# words ("undescended" says "not descended").
DENIALS = frozenset({"not", "never", "cannot"})
_NEGATIONS = """
    no neither nor without none lack lacks lacking absence absent except excluding instead failure
    failures impossible insufficient inadequate ineffective independent irrelevant unable
"""
NEGATIONS = frozenset(_NEGATIONS.split())
NEGATIVE_BEGINNING = re.compile(r"(?:fail|non|un(?!der|i|til))\w")
NO_DENIAL = re.compile(r"\bor not\b|\bnot only\b|\bif not\b")

# Words that turn a question into its opposite when those of one side stand for those of the other;
# a star stands for any ending. The first two pairs say in many words that there is more or less of
# something and that it is better or worse; "long-term" and "low back" say neither. The others belong
# together so closely that they still tell where a text has both sides of the first two.
_DIRECTIONS = (
    (
        "more increas* higher highest greater greatest larger largest longer longest elevat* rais* rise "
        "rises rising prolong*",
        "less fewer decreas* reduc* lower lowers lowered lowering lowest smaller smallest shorter shortest "
        "declin* diminish* lessen* shorten* prevent*",
    ),
    (
        "better best good well improv* superior benefi* help* useful effective* worthwhile enhanc* favo*r* "
        "advantag*",
        "worse worst poor* worsen* deteriorat* inferior impair* detriment* disadvantag*",
    ),
    ("more most", "less least fewer fewest"),
    ("increas*", "decreas* reduc*"),
    ("high higher highest", "low lower lowest"),
    ("long longer longest lengthen* prolong*", "short shorter shortest shorten*"),
    ("large larger largest big bigger greater greatest", "small smaller smallest"),
    ("rise rises rising rose risen", "fall falls falling fell fallen drop drops dropped"),
    ("better best improv* superior", "worse worst worsen* deteriorat* inferior impair*"),
    ("gain*", "loss losses lose loses losing lost"),
    ("strong stronger strongest strengthen*", "weak*"),
    ("early earlier earliest", "late later latest delayed"),
    ("fast faster fastest rapid* accelerat*", "slow*"),
)


def _beginning(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words.replace('*', '[a-z]*').split())})\b")


DIRECTIONS = tuple((_beginning(one), _beginning(other)) for one, other in _DIRECTIONS)

# Stems of the World Health Organization's International Nonproprietary Names ("The use of stems in
# the selection of INN for pharmaceutical substances") that end hardly any other word, and some
# names that are older than the stems.
DRUG_STEMS = (
    *("mab", "tinib", "ciclib", "statin", "sartan", "opril", "olol", "cillin", "conazole"),
    *("prazole", "mycin", "floxacin", "triptan", "gliptin", "gliflozin", "glitazone", "parin"),
    *("caine", "dipine", "setron", "dronate", "dronic", "lukast", "terol", "profen"),
    *("coxib", "fibrate", "thiazide", "azepam", "azolam", "barbital", "cycline", "tadine"),
    *("xaban", "gatran", "grel", "taxel", "rubicin", "platin", "metformin"),
    *("warfarin", "aspirin", "heparin", "insulin", "morphine", "digoxin", "ketamine", "propofol"),
    *("paracetamol", "methotrexate", "dexamethasone", "prednisone", "prednisolone", "tamoxifen"),
)
SHORTEST_DRUG = 6
NO_DRUGS = frozenset({"cholesterol"})

# Who was studied, by sex and by age.
PEOPLE = {
    "sex": {
        "men": {"men", "man", "male", "males", "boys", "boy"},
        "women": {"women", "woman", "female", "females", "girls", "girl"},
    },
    "age": {
        "young": {
            *("children", "child", "pediatric", "paediatric", "infants", "infant", "toddlers"),
            *("newborns", "newborn", "neonates", "neonate", "neonatal", "babies", "baby"),
            *("adolescents", "adolescent", "teenagers", "teenage", "boys", "girls", "boy", "girl"),
        },
        "old": {"elderly", "older", "geriatric", "seniors", "octogenarians", "nonagenarians"},
    },
}

_ENGLISH = """
    a about after all among an and any are as at be been before between both but by can compared
    could did do does during each either every for from given had has have how if in into is it its
    may more most no nor not of on or other over same so some such than that the their them then
    there these they this those to two under until was were what when where whether which while who
    will with within without would
"""
ENGLISH = frozenset(_ENGLISH.split())
# Common words of German, Dutch, French, Spanish, Italian and Portuguese that English texts about
# studies do not hold.
_FOREIGN = """
    der und mit von dem den ein eine einer eines bei zu nicht auf wird wurde wurden sich werden
    für als ist het een van voor zijn niet bij werd aan les des du et dans pour avec une est
    sont chez sur qui que el los las una del en y se con por sin como su entre más para il gli
    lo di della delle dei nel nella che sono nei uma um dos em não foi com são
"""
FOREIGN = frozenset(_FOREIGN.split()) - ENGLISH
