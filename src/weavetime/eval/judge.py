"""Open answers graded by a language model behind any OpenAI-compatible endpoint (`/chat/completions`).

The question put to the judge is Video-ChatGPT's, which ReKV, WeaveTime and lmms-eval use unchanged: mbzuai-oryx/
Video-ChatGPT `quantitative_evaluation/evaluate_activitynet_qa.py` at 69ea1db; zhangyl4/weavetime `video_qa/eval/
eval_open_ended.py` at 68b6583. It asks for yes or no and a score from 0 to 5, as the text of a Python dict. As there, a
verdict is right when its `pred` has "yes" in it, scores are cut to whole numbers, the temperature is 0 and a reply has
at most 300 tokens. Otherwise than there, a verdict that cannot be read is neither asked again nor guessed: it leaves
the mean and shows in `n`. Two judges are not comparable, nor are two versions of one: what it was is in `to_dict`.
"""

from __future__ import annotations

import ast
import http.client
import json
import math
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ..errors import WeaveTimeError
from .base import Benchmark, Example, Grade, Score

SYSTEM = (
    "You are an intelligent chatbot designed for evaluating the correctness of generative outputs for "
    "question-answer pairs. Your task is to compare the predicted answer with the correct answer and determine if "
    "they match meaningfully. Here's how you can accomplish the task:------##INSTRUCTIONS: "
    "- Focus on the meaningful match between the predicted answer and the correct answer.\n"
    "- Consider synonyms or paraphrases as valid matches.\n"
    "- Evaluate the correctness of the prediction compared to the answer."
)
USER = (
    "Please evaluate the following video-based question-answer pair:\n\n"
    "Question: {question}\nCorrect Answer: {gold}\nPredicted Answer: {response}\n\n"
    "Provide your evaluation only as a yes/no and score where the score is an integer value between 0 and 5, with 5 "
    "indicating the highest meaningful match. Please generate the response in the form of a Python dictionary string "
    "with keys 'pred' and 'score', where value of 'pred' is  a string of 'yes' or 'no' and value of 'score' is in "
    "INTEGER, not STRING.DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR EXPLANATION. Only provide the Python dictionary "
    "string. For example, your response should look like this: {{'pred': 'yes', 'score': 4.8}}."
)
SOURCE = "Video-ChatGPT, quantitative_evaluation/evaluate_activitynet_qa.py at 69ea1db"
MAX_TOKENS = 300
LONGEST = 1 << 20  # bytes of a reply that are read
PATIENCE = 60.0  # seconds: the longest pause between two tries, whatever the server asks for
FILTERED = ("content_filter", "content_policy_violation")


class JudgeError(WeaveTimeError):
    """The judge cannot be asked: its address, its key, its model, or no connection."""


class UnreadVerdictError(JudgeError):
    """The judge replied, but not with a verdict."""


class _AgainError(JudgeError):
    """A try that may do better later. after: seconds the server asks to wait."""

    def __init__(self, said: str, after: float = 0.0) -> None:
        super().__init__(said)
        self.after = after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge found. right: whether the answer matches. score: 0 to 5, whole. raw: its words."""

    right: bool
    score: float
    raw: str


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A language model that grades open answers.

    endpoint: base URL, such as https://api.openai.com/v1; it must hold no key. model: the name the server knows it by.
    key: the name of the environment variable with the API key, "" where the server wants none; the key itself is
    written nowhere. workers: requests at once. timeout: seconds without a byte. tries: in all, on 429, 5xx and lost
    connections. pause: seconds before the second try, doubled with each.
    """

    endpoint: str
    model: str
    key: str = ""
    workers: int = 8
    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0
    _served: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.endpoint)
            right = url.scheme in ("http", "https") and url.hostname and url.port != 0  # a port no number can be raises
        except ValueError:
            right = False
        if not right:
            raise JudgeError("a judge's endpoint is a base URL, such as https://api.openai.com/v1")
        if url.username or url.password or url.query or url.fragment:
            raise JudgeError(f"the endpoint at {url.hostname} must be a base URL alone: put a key into a variable")
        if not self.model:
            raise JudgeError("name the model of the judge")
        if self.workers < 1 or self.tries < 1 or self.timeout <= 0 or self.pause < 0:
            raise JudgeError("workers and tries are at least 1, timeout is above 0 and pause not below")
        self._secret()

    def grade(self, question: str, gold: str, response: str) -> Verdict:
        """The verdict on a response. Raises UnreadVerdictError where the judge gave none, JudgeError otherwise."""
        text = USER.format(question=question, gold=gold, response=response)
        asked = {
            "model": self.model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        return verdict(self._said(self._ask(json.dumps(asked).encode())))

    def to_dict(self) -> dict[str, Any]:
        """What a result must say of its judge. served: what the server said it ran, so far."""
        with self._lock:
            served = sorted(self._served)
        return {
            "endpoint": self.endpoint,
            "model": self.model,
            "served": served,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "prompt": {"source": SOURCE, "system": SYSTEM, "user": USER},
        }

    def _secret(self) -> str:
        if not self.key:
            return ""
        found = os.environ.get(self.key, "").strip()
        if not found:
            raise JudgeError(f"the environment variable {self.key} with the judge's API key is not set")
        if not found.isascii() or not found.isprintable():
            raise JudgeError(f"the environment variable {self.key} holds what cannot be an API key")
        return found

    def _ask(self, body: bytes) -> Any:
        for attempt in range(1, self.tries + 1):
            try:
                return self._once(body)
            except _AgainError as e:
                if attempt == self.tries:
                    raise JudgeError(f"{e} ({self.tries} tries)") from e
                time.sleep(min(PATIENCE, max(e.after, self.pause * 2 ** (attempt - 1))))
        raise AssertionError("the last try returns or raises")

    def _once(self, body: bytes) -> Any:
        """The server's JSON. Raises _AgainError where a later try may do better."""
        secret, host = self._secret(), urlsplit(self.endpoint).netloc
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
        request = urllib.request.Request(f"{self.endpoint.rstrip('/')}/chat/completions", body, headers)
        try:
            with _OPENER.open(request, timeout=self.timeout) as reply:
                return json.loads(reply.read(LONGEST))
        except urllib.error.HTTPError as e:
            raise _refused(e, host, self.model, secret) from None  # the error holds the request, and that the key
        except (OSError, http.client.HTTPException) as e:
            raise _AgainError(f"no reply from the judge at {host} ({e}): is the server up?") from None
        except ValueError as e:
            raise JudgeError(f"the judge at {host} replied with what is not JSON: is its endpoint right?") from e

    def _said(self, reply: Any) -> str:
        """The model's words in a reply; what the server says it ran is kept."""
        try:
            said = reply["choices"][0]["message"]["content"]
        except (LookupError, TypeError) as e:
            host = urlsplit(self.endpoint).netloc
            raise JudgeError(f"the judge at {host} replied in another format than /chat/completions") from e
        version = [reply.get(name) for name in ("model", "system_fingerprint")]
        with self._lock:
            self._served.add(" ".join(str(v) for v in version if v) or "unnamed")
        if not isinstance(said, str):
            raise UnreadVerdictError("the judge said nothing")
        return said


def _refused(e: urllib.error.HTTPError, host: str, model: str, secret: str) -> JudgeError:
    """What an HTTP error means. Never the key, also where the server repeats it."""
    with e:
        try:
            said = " ".join(e.read(LONGEST).decode("utf-8", "replace").split())
        except (OSError, http.client.HTTPException):
            said = ""
    said = said.replace(secret, "[key]")[:200] if secret else said[:200]
    if e.code in (401, 403):
        return JudgeError(f"the judge at {host} does not accept the API key ({e.code}): check its variable")
    if e.code in (408, 429) or e.code >= 500:
        after = _seconds(e.headers.get("Retry-After") or "")
        return _AgainError(f"the judge at {host} is busy or in trouble ({e.code})", after)
    if e.code == 400 and any(word in said for word in FILTERED):
        return UnreadVerdictError(f"the judge at {host} does not grade this answer: its content filter")
    if 300 <= e.code < 400:
        return JudgeError(f"the judge at {host} has moved ({e.code}): give the endpoint it moved to")
    return JudgeError(f"the judge at {host} refused {model} ({e.code}): {said or e.reason}")


def _seconds(text: str) -> float:
    """Of a header; 0 where it says a date or nothing."""
    return float(text) if re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()) else 0.0


def verdict(raw: str) -> Verdict:
    """What a judge's words say. Raises UnreadVerdictError unless they hold one dict with yes or no and a score.

    What a model thinks aloud before it, and a code fence around it, are passed over.
    """
    said = re.sub(r"(?s).*</think>", "", raw)
    found = [d for d in map(_dict, re.findall(r"\{[^{}]*\}", said[-10_000:])) if d is not None]
    if not found or any(d != found[0] for d in found):
        raise UnreadVerdictError(f"no verdict in what the judge said: {raw[:80]!r}")
    right, score = found[0]
    return Verdict(right, score, raw)


def _dict(text: str) -> tuple[bool, float] | None:
    try:
        said = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("pred"), str):
        return None
    pred, score = said["pred"].lower(), said.get("score")
    if ("yes" not in pred and "no" not in pred) or isinstance(score, bool) or not isinstance(score, int | float | str):
        return None
    try:
        whole = float(int(score))
    except (ValueError, OverflowError):
        return None
    return ("yes" in pred, whole) if 0 <= whole <= 5 else None


def judged(benchmark: Benchmark, pairs: Iterable[tuple[Example, Any]], judge: Judge) -> Iterator[Grade]:
    """The grade of each (example, response) in order, with the judge's `parts`: `judge` 0 or 1, `judge_score` 0 to 5.

    A response that is not there, or blank, is wrong and not asked about. A verdict that cannot be read gives neither
    part, but `judge_unread`. Raises JudgeError where the judge cannot be asked; grades given before it stand.
    """
    if not benchmark.open_answers:
        raise JudgeError(f"{benchmark.name} has its own rule for answers: it takes no judge")
    waiting: deque[Future[Grade]] = deque()
    with ThreadPoolExecutor(judge.workers) as pool:
        try:
            for example, response in pairs:
                waiting.append(pool.submit(_graded, benchmark, example, response, judge))
                if len(waiting) >= 2 * judge.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _graded(benchmark: Benchmark, example: Example, response: Any, judge: Judge) -> Grade:
    grade = benchmark.grade(example, response)
    text = "" if response is None else str(response).replace("\n", "")  # as ReKV writes its answers down
    if not text.strip():
        parts = {"judge": 0.0, "judge_score": 0.0}
    else:
        try:
            found = judge.grade(example.question, str(example.gold), text)
            parts = {"judge": float(found.right), "judge_score": found.score}
        except UnreadVerdictError:
            parts = {"judge_unread": 1.0}
    return replace(grade, parts={**grade.parts, **parts})


def judge_scores(grades: Sequence[Grade], before: str = "") -> list[Score]:
    """The judge's figures for a summary, none where there was no judge. n: verdicts that could be read.

    judge: share that matches. judge_score/5: the mean score, of 5. before: what their names begin with.
    """
    read = [g for g in grades if "judge" in g.parts]
    if not read and not any("judge_unread" in g.parts for g in grades):
        return []
    sums = {name: math.fsum(g.parts[name] for g in read) for name in ("judge", "judge_score")}
    means = {name: total / len(read) if read else None for name, total in sums.items()}
    score = means["judge_score"]
    return [
        Score(f"{before}judge", means["judge"], len(read), len(grades)),
        Score(f"{before}judge_score/5", None if score is None else score / 5, len(read), len(grades)),
    ]
