"""The viewer: what it shows, what it hides, and whom it refuses."""

import math
import os
import re
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from html import escape, unescape

import pytest
from starlette.testclient import TestClient

from expunge.cli.main import main
from expunge.evidence.store import WEIGHTS, EvidenceStore, Layers, Unit
from expunge.reporting.build import build_report
from expunge.reporting.wording import chance
from expunge.utils.io import read_json, write_json
from expunge.viewer.app import PAGE, make_app
from expunge.viewer.chat import MOST_TURNS
from expunge.viewer.library import RunLibrary
from ledgers import DIGEST, entries, open_ledger
from synthetic_run import PEOPLE, build_run, write_attacks, write_run_manifest

PORT = 7820
MOVEMENT = Unit(role="unlearned", split="weights", attack=WEIGHTS, kind="layers")
MOVED = {
    "first": {
        "lm_head.weight": 0.01,
        "model.layers.10.mlp.experts.0.up_proj.weight": 0.02,
        "model.layers.10.mlp.experts.7.up_proj.weight": 0.03,
        "model.layers.2.mlp.up_proj.weight": 0.2,
    },
    "deep/er/second": {"model.layers.2.self_attn.q_proj.weight": 0.4},
}
"""Run to its changed tensors, and how far they moved."""
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two finished runs, one that goes on, one that is damaged, and a leaderboard."""
    root = tmp_path_factory.mktemp("place") / "runs"
    for name in ("first", "deep/er/second"):
        run = build_run(root / name)
        rows = [Layers(record=tensor, values=(size,)) for tensor, size in MOVED[name].items()]
        EvidenceStore(run / "evidence").write(MOVEMENT, rows)
        build_report(run)
        write_run_manifest(run, key=b"k" * 32)
    second = root / "deep/er/second"
    results = read_json(second / "results.json")
    results["gates"][0]["status"] = "fail"
    write_json(second / "results.json", results)
    for name, mark, text in (("half", "run.json", "{}"), ("bad", "manifest.json", '{"a": ')):
        (root / name).mkdir()
        (root / name / mark).write_text(text)
    (root / "bench").mkdir()
    rows = [["npo", "0.9", "PASS"], [EVIL, "0.1", "FAIL-DAMAGE"]]
    board = {
        "title": "Board",
        "sentences": ["S."],
        "standings": [["model", "weakest", "ruling"], rows],
    }
    write_json(root / "bench" / "leaderboard.json", board)
    write_attacks(root / "attack")
    with open_ledger(root / "books" / "ledger.db").writing() as writer:
        for entry in entries():
            writer.add(entry)
    (root / "books" / "other.db").write_bytes(b"SQLite format 3" + bytes(80))
    (root / "latest").symlink_to("first")
    outside = root.parent / "outside"
    shutil.copytree(root / "first", outside)
    return root


@pytest.fixture
def client(place, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "key"))
    app = make_app(RunLibrary(place), port=PORT)
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)


def test_the_list_has_every_run_once_with_what_is_known_of_it(client):
    page = client.get("/").text
    found = re.findall(r'<a href="/run/([^"]+)">', page)
    assert sorted(found) == ["attack", "bad", "deep/er/second", "first", "half"]
    assert page.count("<strong>FAIL-RESIDUAL</strong>") == 2
    assert "<strong>not finished</strong>" in page
    assert "<strong>cannot be read</strong>" in page
    assert '<a href="/board/bench">' in page
    assert re.findall(r'<a href="/ledger/([^"]+)">', page) == ["books/ledger.db"]
    assert "<strong>attack: recovered</strong>" in page


FILTERS = [
    ("?q=SECOND", ["deep/er/second"]),
    ("?ruling=not+finished", ["half"]),
    ("?q=npo+first", ["first"]),
    ("?q=nothing", []),
    ("?page=-1&ruling=not+finished", ["half"]),
    ("?page=99999999999999&ruling=not+finished", ["half"]),
]


@pytest.mark.parametrize(("query", "found"), FILTERS)
def test_the_list_is_filtered(client, query, found):
    assert re.findall(r'<a href="/run/([^"]+)">', client.get(f"/{query}").text) == found


def test_personal_text_is_masked_until_it_is_asked_for(client):
    words = {word for person in PEOPLE for word in person.split()} | {"Vrbnik", "5550184736"}
    for path in ("/run/first?", "/chat/first?", "/compare?a=first&b=deep/er/second&"):
        masked, open_ = client.get(path).text, client.get(f"{path}show=text").text
        assert "Personal text is masked" in masked
        assert not [word for word in words if word in masked]
        assert words <= set(re.findall(r"\w+", open_))


def test_a_chat_shows_stored_answers_and_the_erased_one_token_by_token(client, place):
    store = EvidenceStore(place / "first" / "evidence")
    items = {item.record: item for item in store.items("forget")}
    scores = {
        role: {
            row.record: row for row in store.scores(Unit(role=role, split="forget", kind="scores"))
        }
        for role in ("original", "unlearned")
    }
    record, item = next(iter(items.items()))
    page = client.get("/chat/first", params={"q": item.question.upper(), "show": "text"}).text
    (turn,) = page.split('<section class="turn">')[1:]
    assert unescape(turn).startswith(f"<h2>{item.question}</h2>")
    rows = re.findall(r"<tr><td><code>(.*?)</code></td>(.*?)</tr>", turn)
    assert len(rows) == scores["original"][record].content
    for place_, (_, cells) in enumerate(rows):
        shown = re.findall(r"<td>(.*?)</td>", cells)[:2]
        logp = [scores[role][record].logp[place_] for role in ("original", "unlearned")]
        assert shown == [escape(chance(math.exp(value))) for value in logp]
    assert "This app loads no model" in page


def test_a_chat_finds_by_all_words_and_says_when_nothing_is_there(client, place, tmp_path):
    every = client.get("/chat/first").text
    total = int(re.search(r"of (\d+) in the forget set", every)[1])
    assert every.count('<section class="turn">') == min(total, MOST_TURNS)
    assert "0 of 0 questions" in client.get("/chat/first?q=nobody+asks+this").text
    assert "goes on" in client.get("/chat/half").text or "going on" in client.get("/chat/half").text
    shutil.copytree(place / "first", tmp_path / "runs" / "bare")
    shutil.rmtree(tmp_path / "runs" / "bare" / "evidence")
    bare = TestClient(
        make_app(RunLibrary(tmp_path / "runs"), port=PORT), base_url=f"http://127.0.0.1:{PORT}"
    )
    assert "The evidence was destroyed" in bare.get("/chat/bare").text


@pytest.mark.parametrize("path", ["/run/bare?show=text", "/chat/bare?show=text"])
def test_evidence_that_was_shown_is_not_shown_once_it_is_destroyed(place, tmp_path, path):
    run = shutil.copytree(place / "first", tmp_path / "runs" / "bare")
    library = RunLibrary(tmp_path / "runs")
    client = TestClient(make_app(library, port=PORT), base_url=f"http://127.0.0.1:{PORT}")
    assert "Vrbnik" in client.get(path).text
    shutil.rmtree(run / "evidence")
    page = client.get(path).text
    assert "Vrbnik" not in page
    assert "The evidence was destroyed" in page


def test_a_run_shows_every_gate_and_a_comparison_marks_what_differs(client, place):
    gates = read_json(place / "first" / "results.json")["gates"]
    page = client.get("/run/first").text
    assert [gate["name"] for gate in gates if f"<code>{gate['name']}</code>" not in page] == []
    both = client.get("/compare?a=first&b=deep/er/second").text
    gate_rows = re.findall(r'<tr( class="changed")?><td>[a-z]+: .*?<code>(.*?)</code>', both, re.S)
    assert [name for changed, name in gate_rows if changed] == [gates[0]["name"]]
    assert f"1 of {len(gates)} gates came out differently" in both


WEIGHT_ROWS = {
    "block": {
        "block 2": ("20 % mlp.up_proj", "40 % self_attn.q_proj"),
        "block 10": ("3.00 % mlp.experts.up_proj", "unchanged"),
        "outside the blocks": ("1.00 % lm_head", "unchanged"),
    },
    "module": {
        "mlp.up_proj": ("20 % block 2", "unchanged"),
        "self_attn.q_proj": ("unchanged", "40 % block 2"),
        "mlp.experts.up_proj": ("3.00 % block 10", "unchanged"),
        "lm_head": ("1.00 % outside the blocks", "unchanged"),
    },
    "tensor": {
        "block 2: mlp.up_proj": ("20 %", "unchanged"),
        "block 2: self_attn.q_proj": ("unchanged", "40 %"),
        "block 10: mlp.experts.up_proj": ("3.00 %", "unchanged"),
        "outside the blocks: lm_head": ("1.00 %", "unchanged"),
    },
}


@pytest.mark.parametrize("table", WEIGHT_ROWS)
def test_a_comparison_says_how_far_each_run_moved_the_weights(client, table):
    page = client.get("/compare?a=first&b=deep/er/second").text
    (_, _, found) = page.partition(f'<table class="cards weights"><thead><tr><th>{table}<')
    found = found.partition("</table>")[0]
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in found.split("<tr>")[1:]]
    words = [[" ".join(re.sub("<.*?>", " ", cell).split()) for cell in row] for row in cells]
    assert {name: (one, other) for name, one, other in words} == WEIGHT_ROWS[table]


def test_a_run_without_a_comparison_of_weights_is_said_to_have_none(client, place, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(place / "first", root / "a")
    shutil.copytree(place / "first", root / "b")
    (root / "b" / "evidence" / MOVEMENT.filename).unlink()
    app = make_app(RunLibrary(root), port=PORT)
    others = TestClient(app, base_url=f"http://127.0.0.1:{PORT}")
    pages = {pair: others.get(f"/compare?a={pair[0]}&b={pair[1]}").text for pair in ("ab", "bb")}
    assert pages["ab"].count("not compared") == sum(len(rows) for rows in WEIGHT_ROWS.values()) - 2
    assert "Neither run stored how its weights differ" in pages["bb"]


def test_a_leaderboard_is_shown_filtered_and_escaped(client):
    page = client.get("/board/bench").text
    assert "2 of 2 rows" in page
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "1 of 2 rows" in client.get("/board/bench?q=pass").text


REFUSED = [
    ("GET", {"host": "evil.example"}, 421),
    ("GET", {"host": f"127.0.0.1:{PORT + 1}"}, 421),
    ("GET", {"host": f"127.0.0.1.evil.example:{PORT}"}, 421),
    ("GET", {"origin": "http://evil.example"}, 403),
    ("GET", {"origin": "null"}, 403),
    ("GET", {"sec-fetch-site": "cross-site"}, 403),
    ("GET", {"sec-fetch-site": "same-site"}, 403),
    ("POST", {}, 405),
    ("DELETE", {}, 405),
    ("OPTIONS", {}, 405),
]


@pytest.mark.parametrize(("method", "headers", "status"), REFUSED)
def test_others_are_refused_and_nothing_is_written(client, method, headers, status):
    answer = client.request(method, "/run/first?show=text", headers=headers)
    assert answer.status_code == status
    assert "Kovanda" not in answer.text


def test_own_pages_are_let_through_and_load_nothing_from_elsewhere(client):
    own = {"origin": f"http://localhost:{PORT}", "host": f"localhost:{PORT}"}
    for path in (
        "/",
        "/run/first",
        "/chat/first",
        "/compare?a=first&b=first",
        "/board/bench",
        "/style.css",
    ):
        answer = client.get(path, headers={**own, "sec-fetch-site": "same-origin"})
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert not re.findall(r"(?:src|href|action)=\"(?!/|\?|data:,\")", answer.text)


def test_a_report_has_an_origin_of_its_own(client):
    answer = client.get("/report/first")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy


def test_attacks_are_shown_with_what_they_brought_back(client):
    text = unescape(client.get("/run/attack").text)
    assert "RECOVERED: 1 of 1 attack" in text
    rows = re.findall(r"<tr><td>(\w+)</td>(.*?)</tr>", text)
    assert [name for name, _ in rows] == ["relearn", "sampling"], "the worst first"
    assert "came back" in rows[0][1]
    assert "0.40 to 0.80" in rows[0][1]
    assert "not computable: no facts" in rows[1][1]
    assert "sampling" not in client.get("/run/attack?q=relearn").text


def test_a_ledger_is_shown_and_stays_as_it_is(client, place):
    path = place / "books" / "ledger.db"
    before = path.read_bytes(), {each.name for each in path.parent.iterdir()}
    text = unescape(client.get("/ledger/books/ledger.db").text)
    numbers = [int(number) for number in re.findall(r"<tr><td>(\d+)</td>", text)]
    assert numbers == [*range(len(entries()) + 1, 0, -1)], "every entry, the newest first"
    assert "is what its last writer left" in text
    assert "verdict PASS" in text
    assert DIGEST not in text
    assert before == (path.read_bytes(), {each.name for each in path.parent.iterdir()})
    assert client.get("/ledger/books/other.db").status_code == 404


ELSEWHERE = [
    "/run/latest",
    "/run/../outside",
    "/run/%2e%2e/outside",
    "/run/..%2foutside",
    "/run//etc/passwd",
    "/run/first/evidence",
    "/run/",
    "/report/half",
    "/chat/latest",
    "/chat/../outside",
    "/compare?a=first",
    "/compare?a=first&b=half",
    "/board/first",
    "/none",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_what_is_not_in_the_list_is_not_shown(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "said"), [("half", "going on, or was stopped"), ("bad", "damaged")]
)
def test_a_run_that_cannot_be_shown_says_why(client, path, said):
    assert said in client.get(f"/run/{path}").text


def test_a_thousand_runs_are_listed_in_pages_and_read_once(place, tmp_path, monkeypatch):
    root = tmp_path / "many"
    for number in range(1000):
        (root / f"r{number:04}").mkdir(parents=True)
        os.link(place / "first" / "manifest.json", root / f"r{number:04}" / "manifest.json")
    library = RunLibrary(root)
    assert len(library.look().runs) == 1000
    monkeypatch.setattr("expunge.viewer.library.read_table", None)
    client = TestClient(make_app(library, port=PORT), base_url=f"http://127.0.0.1:{PORT}")
    seen, link = [], "/"
    while link:
        page = client.get(link).text
        seen += re.findall(r'<a href="/run/([^"]+)">', page)
        older = re.search(r'<a href="([^"]+)">older runs', page)
        link = older and older[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 1000
    assert len(client.get("/").text) < 1000 * PAGE


def test_a_hundred_readers_get_the_same_page(client):
    with ThreadPoolExecutor(20) as readers:
        found = list(readers.map(lambda _: client.get("/"), range(100)))
    assert {answer.status_code for answer in found} == {200}
    assert len({answer.text for answer in found}) == 1


def test_a_folder_a_port_and_an_extra_that_are_missing_are_named(
    place, tmp_path, capsys, monkeypatch
):
    assert main(["view", str(tmp_path / "gone")]) == 4
    assert "there is no folder" in capsys.readouterr().err
    assert main(["view", str(tmp_path)]) == 4
    assert "holds no run" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["view", str(place), "--port", str(taken.getsockname()[1])]) == 5
    assert "cannot listen on port" in capsys.readouterr().err
    assert main(["view", str(place), "--port", "99999"]) == 5
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["view", str(place)]) == 2
    assert "pip install 'expunge[view]'" in capsys.readouterr().err
