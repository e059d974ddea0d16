"""JSON as TensorFlow Serving and Triton read it: NaN and Infinity are numbers, and the first of equal keys counts.

Both parse with RapidJSON, which takes NaN and Infinity, keeps every member of an object, and finds the first of a name.
orjson refuses the former and keeps the last of equal keys, but is two to five times as fast as Python's parser. So it
reads every document, and Python's reads again the few that need it.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any, Final

import numpy as np
import orjson

from serving.gateway.http import Json, bad_request
from serving.tensors import Array

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<sign>-?)(?P<word>NaN|Inf(?:inity)?)', re.DOTALL)
_WORDS: Final = (b"NaN", b"Inf")
_SPELLINGS_BYTES: Final = 2**20
"""Longest body whose words are respelt: Python does that, one string of the document after the other."""
_NULL: Final = re.compile(b"null")
_ESCAPE: Final = b"\\u"


def parse_object(body: bytes, most_commas: float = math.inf) -> dict[str, Any]:
    """The JSON object that `body` holds, UTF-8 with or without a byte order mark.

    Raises:
        HttpError: 400, it is no JSON, or no object, or has more than `most_commas`.
    """
    if len(body) > most_commas and body.count(b",") > most_commas:
        raise bad_request("the request holds more values than any signature takes")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient(body, error)
    else:
        if isinstance(document, dict) and _may_repeat_keys(document, body):
            document = _read_again(body)
    if not isinstance(document, dict):
        raise bad_request(f"the request must be a JSON object, not {kind_of(document)}")
    return document


def kind_of(value: Json) -> str:
    """What a JSON value is, for a message."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return names.get(type(value), "a number")


def numbers(array: Array) -> Json:
    """An array of numbers or truth values for orjson, as short as its type allows; NaN and Infinity by name."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    # orjson writes null for what is no JSON, and nothing else in an array of numbers is null.
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    words = iter([_word(value) for value in array[~np.isfinite(array)].tolist()])
    return orjson.Fragment(_NULL.sub(lambda _: next(words), text))


def _word(value: float) -> bytes:
    return b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity"  # noqa: PLR0124 - NaN's own mark


def _lenient(body: bytes, error: ValueError) -> Json:
    if not body:
        raise bad_request("JSON parse error: the document is empty")
    latest: Exception = error
    if body.startswith(codecs.BOM_UTF8) or any(word in body for word in _WORDS):
        for respell in (False, True) if len(body) <= _SPELLINGS_BYTES else (False,):
            try:
                text = body.decode("utf-8-sig")
                document = _first_keys(_TOKEN.sub(_python_word, text) if respell else text)
                if _ESCAPE in body:
                    _refuse_half_characters(document)
            except (ValueError, RecursionError) as refused:
                latest = refused
            else:
                return document
    raise bad_request(f"JSON parse error: {latest}")


def _read_again(body: bytes) -> Json:
    """What orjson has taken, by Python's parser: it takes less deep nesting."""
    try:
        return _first_keys(body.decode())
    except RecursionError as error:
        raise bad_request(f"JSON parse error: {error}") from error


def _refuse_half_characters(document: Json) -> None:
    """Python's parser takes half a surrogate pair, which is no text: it can be neither decoded nor answered.

    Raises:
        ValueError: some string holds one.
    """
    json.dumps(document, ensure_ascii=False).encode()


def _python_word(match: re.Match[str]) -> str:
    """RapidJSON's spellings as Python's: Inf for Infinity, and NaN may have a sign."""
    word = match["word"]
    if word is None:
        return match[0]
    return "NaN" if word == "NaN" else f"{match['sign']}Infinity"


def _first_keys(text: str) -> Json:
    return json.loads(text, object_pairs_hook=_first_of_each)


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs)) if len({key for key, _ in pairs}) != len(pairs) else dict(pairs)


def _may_repeat_keys(document: Json, body: bytes) -> bool:
    """Whether `body` has more colons than `document` has keys: some key was there twice, or a string holds a colon.

    Looks no deeper than it must: base64 and numbers have no colons, so most requests are done at their first objects.
    Finding the next colon is eight times as fast as counting them.
    """
    at = body.find(b":")
    level: list[Any] = [document]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for _ in value:
                    at = body.find(b":", at + 1)
                below.extend(value.values())
            else:
                below.extend(value)
        if at < 0:
            return False
        level = [value for value in below if isinstance(value, (dict, list))]
    return True
