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
    r"|\\[a-zA-Z]+\{|javascript:",
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
)
READER = frozenset({"you", "your", "yours", "yourself"})
GIVEAWAY_PHRASES = ("answer is", "answer was", "correct answer")
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
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS.split())} | {
    "once": "1",
    "twice": "2",
    "first": "1",
    "second": "2",
    "third": "3",
}
