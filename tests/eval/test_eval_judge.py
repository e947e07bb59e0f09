"""The judge against a real HTTP server that speaks the format, well and badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from weavetime.eval import Benchmark, Example, Grade, Summary
from weavetime.eval.judge import Judge, JudgeError, UnreadVerdictError, judge_scores, judged, verdict

KEY = "sk-a-secret-that-is-nowhere"
YES = "{'pred': 'yes', 'score': 4}"
NO = "{'pred': 'no', 'score': 1}"


@dataclass
class Server:
    """say: the status, headers and body of the n-th reply, from what was asked. asked: requests so far."""

    say: Callable[[int, dict[str, Any]], tuple[int, dict[str, str], bytes]]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def reply(text: Any, **more: Any) -> tuple[int, dict[str, str], bytes]:
    said = {"model": "judge-1-2026", "choices": [{"message": {"role": "assistant", "content": text}}]} | more
    return 200, {}, json.dumps(said).encode()


Serve = Callable[..., Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("A_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running: list[ThreadingHTTPServer] = []

    def start(*replies: Any, by: Callable[[dict[str, Any]], str] | None = None) -> Server:
        """The replies in turn, the last one for ever; or by the text of the question."""
        server = Server(lambda n, asked: reply(by(asked)) if by else replies[min(n, len(replies) - 1)])
        now = [0]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    n = len(server.asked)
                    server.asked.append(asked)
                    server.headers.append(dict(self.headers))
                    server.paths.append(self.path)
                    now[0] += 1
                    server.most = max(server.most, now[0])
                status, headers, body = server.say(n, asked)
                with server.lock:
                    now[0] -= 1
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):  # the judge did not wait
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        running.append(http)
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


def judge(server: Server, **more: Any) -> Judge:
    return Judge(endpoint=server.url, model="judge-1", **{"key": "A_KEY", "pause": 0.01, "timeout": 5.0, **more})


class Open(Benchmark):
    name = "open"
    counts: ClassVar[dict[str, int]] = {}
    open_answers = True

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        yield from ()

    def prompt(self, example: Example) -> str:
        return example.question

    def grade(self, example: Example, response: Any) -> Grade:
        return Grade(float(response == example.gold), parts={"length": 1.0}, task=example.task)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        return Summary(tuple(judge_scores(list(grades))), total="judge")


class Closed(Open):
    open_answers = False


def example(n: int = 0) -> Example:
    return Example(str(n), "v.mp4", "t", f"Question {n} {{braces}}?", (), f"gold {n}")


# What is asked, and what comes of it


def test_what_the_judge_is_asked(serve: Serve) -> None:
    server = serve(reply(YES))
    found = judge(server).grade("What is cut?", "A loaf.", "Bread {x}")
    assert (found.right, found.score, found.raw) == (True, 4.0, YES)
    [asked] = server.asked
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert (asked["model"], asked["temperature"]) == ("judge-1", 0)
    system, user = asked["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert system["content"].startswith("You are an intelligent chatbot designed for evaluating the correctness of")
    assert "how you can accomplish the task:------##INSTRUCTIONS: - Focus on" in system["content"]
    assert user["content"].startswith(
        "Please evaluate the following video-based question-answer pair:\n\n"
        "Question: What is cut?\nCorrect Answer: A loaf.\nPredicted Answer: Bread {x}\n\nProvide your evaluation only"
    )
    assert user["content"].endswith("your response should look like this: {'pred': 'yes', 'score': 4.8}.")


def test_no_key_where_the_server_wants_none(serve: Serve) -> None:
    server = serve(reply(NO))
    assert not Judge(endpoint=server.url + "/", model="m").grade("q", "a", "r").right
    assert "Authorization" not in server.headers[0]
    assert server.paths == ["/v1/chat/completions"]


def test_a_result_says_what_its_judge_was_and_never_the_key(serve: Serve) -> None:
    server = serve(reply(YES, system_fingerprint="fp_1"), reply(YES))
    asked = judge(server)
    assert asked.to_dict()["served"] == []
    asked.grade("q", "a", "r")
    asked.grade("q", "a", "r")
    said = asked.to_dict()
    assert said["served"] == ["judge-1-2026", "judge-1-2026 fp_1"]
    assert (said["endpoint"], said["model"], said["temperature"]) == (server.url, "judge-1", 0)
    assert "Correct Answer: {gold}" in said["prompt"]["user"]
    assert KEY not in json.dumps(said) + repr(asked)


# Verdicts


@pytest.mark.parametrize(
    ("raw", "right", "score"),
    [
        (YES, True, 4),
        ("{'pred': 'no', 'score': 0}", False, 0),
        ('{"pred": "Yes", "score": 5}', True, 5),
        ("{'pred': 'yes', 'score': 4.8}", True, 4),  # cut, as in the published code
        ("{'pred': 'no', 'score': '2'}", False, 2),
        (f"```python\n{YES}\n```", True, 4),
        (f"<think>an example is {NO}</think>{YES}", True, 4),
        (f"{YES} {YES}", True, 4),
    ],
)
def test_verdicts(raw: str, right: bool, score: float) -> None:
    found = verdict(raw)
    assert (found.right, found.score) == (right, score)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "yes",
        "yes, 4",
        "{'pred': 'maybe', 'score': 3}",
        "{'pred': 'yes'}",
        "{'pred': 'yes', 'score': 6}",
        "{'pred': 'yes', 'score': -1}",
        "{'pred': 'yes', 'score': '4.8'}",
        "{'pred': 'yes', 'score': True}",
        "{'pred': 'yes', 'score': 1e999}",
        "{'pred': True, 'score': 4}",
        "{'pred': 'yes', 'score': 4",
        "{__import__('os').getcwd()}",
        "{" + "(" * 5000 + "}",
        f"{YES} or {NO}",
    ],
)
def test_what_is_no_verdict_is_not_guessed(raw: str) -> None:
    with pytest.raises(UnreadVerdictError):
        verdict(raw)


# What goes wrong


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(serve: Serve, status: int) -> None:
    server = serve((status, {}, b"busy"), (status, {}, b"busy"), reply(YES))
    assert judge(server, tries=3).grade("q", "a", "r").right
    assert len(server.asked) == 3
    with pytest.raises(JudgeError, match=rf"in trouble \({status}\) \(2 tries\)"):
        judge(serve((status, {}, b"busy")), tries=2).grade("q", "a", "r")


def test_the_pause_that_the_server_asks_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("weavetime.eval.judge.time.sleep", waited.append)
    date = (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"")
    server = serve((429, {"Retry-After": "7"}, b""), date, (429, {"Retry-After": "999999"}, b""), date, reply(YES))
    judge(server, pause=1.0).grade("q", "a", "r")
    assert waited == [7.0, 2.0, 60.0, 8.0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_accepted(serve: Serve, status: int) -> None:
    server = serve((status, {}, f"Incorrect API key provided: {KEY}".encode()))
    with pytest.raises(JudgeError, match="does not accept the API key") as caught:
        judge(server).grade("q", "a", "r")
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1


def test_a_refusal_says_why_without_the_key(serve: Serve) -> None:
    server = serve((404, {}, f'{{"error": "no model judge-1 for\n{KEY}"}}'.encode()))
    with pytest.raises(JudgeError, match=r"refused judge-1 \(404\): .*no model judge-1 for \[key\]") as caught:
        judge(server).grade("q", "a", "r")
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_the_key_follows_no_redirect(serve: Serve) -> None:
    other = serve(reply(YES))
    server = serve((302, {"Location": other.url + "/chat/completions"}, b""))
    with pytest.raises(JudgeError, match="has moved"):
        judge(server).grade("q", "a", "r")
    assert other.asked == []


def test_a_server_that_is_not_there_or_slow(serve: Serve) -> None:
    server = serve(reply(YES))
    server.say = lambda n, asked: (time.sleep(0.5 if n == 0 else 0), reply(YES))[1]
    assert judge(server, timeout=0.15, tries=2).grade("q", "a", "r").right
    assert len(server.asked) == 2
    with pytest.raises(JudgeError, match="is the server up"):
        Judge(endpoint="http://127.0.0.1:9/v1", model="m", tries=2, pause=0.0).grade("q", "a", "r")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": 3}', b"\xff"])
def test_a_server_of_another_kind(serve: Serve, body: bytes) -> None:
    with pytest.raises(JudgeError, match=r"not JSON|another format") as caught:
        judge(serve((200, {}, body))).grade("q", "a", "r")
    assert not isinstance(caught.value, UnreadVerdictError)


@pytest.mark.parametrize("said", [reply(None), (400, {}, b'{"error": {"code": "content_filter"}}')])
def test_an_answer_that_the_judge_will_not_grade(serve: Serve, said: Any) -> None:
    with pytest.raises(UnreadVerdictError):
        judge(serve(said)).grade("q", "a", "r")


@pytest.mark.parametrize(
    "more",
    [
        {"endpoint": "api.openai.com/v1"},
        {"endpoint": "file:///etc/passwd"},
        {"endpoint": "https://user:pw@host/v1"},
        {"endpoint": "https://host/v1?key=abc"},
        {"endpoint": "http://host:port/v1"},
        {"endpoint": "http://[::1/v1"},
        {"endpoint": ""},
        {"model": ""},
        {"workers": 0},
        {"tries": 0},
        {"timeout": 0.0},
        {"key": "NO_SUCH_KEY"},
        {"key": "BAD_KEY"},
    ],
)
def test_a_judge_that_cannot_be(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setenv("BAD_KEY", "a\nb")
    with pytest.raises(JudgeError) as caught:
        Judge(**{"endpoint": "http://host/v1", "model": "m", **more})
    assert "pw" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "a\nb" not in str(caught.value)


# Many answers


def by_answer(asked: dict[str, Any]) -> str:
    said = asked["messages"][1]["content"].split("Predicted Answer: ")[1].split("\n")[0]
    return {"right": YES, "wrong": NO}.get(said.split()[0], "hard to say")


def test_grades_come_in_order_with_the_judges_parts(serve: Serve) -> None:
    server = serve(by=by_answer)
    said = ["right 0", "wrong", "odd", None, " \n", "right\n5", "gold 6", ["right"]]
    grades = list(judged(Open(), [(example(i), r) for i, r in enumerate(said)], judge(server)))
    assert [g.parts.get("judge") for g in grades] == [1, 0, None, 0, 0, None, None, None]
    assert [g.parts.get("judge_score") for g in grades] == [4, 1, None, 0, 0, None, None, None]
    assert all(g.parts["length"] == 1.0 for g in grades)  # what the benchmark itself reports stays
    assert [g.value for g in grades] == [0, 0, 0, 0, 0, 0, 1, 0]
    assert len(server.asked) == 6  # nothing is asked about what is not there
    assert {m["messages"][1]["content"].split("\n")[2] for m in server.asked} >= {"Question: Question 0 {braces}?"}


def test_an_unread_verdict_is_in_no_mean_and_shows_in_the_counts(serve: Serve) -> None:
    pairs = [(example(i), r) for i, r in enumerate(["right", "wrong", "odd"])]
    summary = Open().summarize(judged(Open(), pairs, judge(serve(by=by_answer))))
    assert summary["judge"] == 0.5
    assert summary["judge_score/5"] == pytest.approx(0.5)
    assert (summary.score("judge").n, summary.score("judge").rows) == (2, 3)
    only = Open().summarize(judged(Open(), pairs[2:], judge(serve(by=by_answer))))
    assert (only["judge"], only.score("judge").n, only.score("judge").rows) == (None, 0, 1)


def test_several_requests_at_once_and_no_more(serve: Serve) -> None:
    server = serve(reply(YES))
    server.say = lambda n, asked: (time.sleep(0.03), reply(YES))[1]
    grades = list(judged(Open(), [(example(i), "right") for i in range(24)], judge(server, workers=4)))
    assert len(grades) == len(server.asked) == 24
    assert 2 <= server.most <= 4


def test_a_judge_that_fails_stops_the_rest(serve: Serve) -> None:
    server = serve(reply(YES), (401, {}, b""))
    grades = judged(Open(), [(example(i), "right") for i in range(100)], judge(server, workers=1))
    assert next(grades).parts["judge"] == 1.0
    with pytest.raises(JudgeError, match="API key"):
        list(grades)
    assert len(server.asked) < 10


def test_a_benchmark_with_a_rule_of_its_own_takes_no_judge(serve: Serve) -> None:
    server = serve(reply(YES))
    with pytest.raises(JudgeError, match="takes no judge"):
        list(judged(Closed(), [(example(), "right")], judge(server)))
    assert server.asked == []
