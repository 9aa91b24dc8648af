"""Embeddings kept on disk, and embeddings from a server."""

from __future__ import annotations

import json
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from agentkit import RetrievalError, UserError
from agentkit_retrievers import (
    CachedEmbedder,
    Embedder,
    FaissRetriever,
    SentenceTransformerEmbedder,
    ServerEmbedder,
)
from agentkit_retrievers.embedding import _SHORT_NAMES
from hashing_embedder import HashingEmbedder


def test_nothing_is_embedded_twice(tmp_path):
    inner = HashingEmbedder()
    embedder = CachedEmbedder(inner, tmp_path / "cache" / "vectors.sqlite")
    assert isinstance(embedder, Embedder)
    texts = ["one cat", "two dogs", "one cat", "a lone \ud800 surrogate"]
    vectors = embedder.embed_documents(texts)
    assert sorted(inner.embedded) == sorted({"one cat", "two dogs", "a lone ? surrogate"})
    np.testing.assert_array_equal(vectors[0], vectors[2])
    embedder.close()

    again = HashingEmbedder()
    embedder = CachedEmbedder(again, tmp_path / "cache" / "vectors.sqlite")
    np.testing.assert_array_equal(embedder.embed_documents(texts), vectors)
    assert again.embedded == []
    assert (embedder.hits, embedder.misses) == (4, 0)
    assert embedder.embed_documents([]).shape == (0, 512)
    np.testing.assert_array_equal(embedder.embed_query("one cat"), vectors[0])


def test_models_and_prompts_do_not_mix(tmp_path):
    path = tmp_path / "vectors.sqlite"
    first = CachedEmbedder(HashingEmbedder(model_name="a", dimension=8), path)
    first.embed_documents(["text"])
    second = CachedEmbedder(HashingEmbedder(model_name="b", dimension=4), path)
    assert second.embed_documents(["text"]).shape == (1, 4)
    prompted = HashingEmbedder(model_name="a", dimension=8)
    prompted.document_prompt = "passage: "
    third = CachedEmbedder(prompted, path)
    third.embed_documents(["text"])
    assert third.misses == 1


def test_an_interrupted_build_goes_on(tmp_path):
    class Fragile(HashingEmbedder):
        def embed_documents(self, texts):
            if len(self.embedded) >= 256:
                raise KeyboardInterrupt
            return super().embed_documents(texts)

    texts = [f"text number {n}" for n in range(300)]
    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(Fragile(), tmp_path / "v.sqlite").embed_documents(texts)
    rest = HashingEmbedder()
    CachedEmbedder(rest, tmp_path / "v.sqlite").embed_documents(texts)
    assert len(rest.embedded) == 44


def test_threads_share_a_cache(tmp_path):
    embedder = CachedEmbedder(HashingEmbedder(), tmp_path / "v.sqlite")
    expected = HashingEmbedder().embed_documents([f"t {n % 40}" for n in range(80)])
    results = {}

    def work(number):
        results[number] = embedder.embed_documents([f"t {n % 40}" for n in range(80)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for vectors in results.values():
        np.testing.assert_allclose(vectors, expected)


def test_a_file_that_is_no_cache_is_refused(tmp_path):
    path = tmp_path / "v.sqlite"
    path.write_bytes(b"no database, but text " * 99)
    with pytest.raises(RetrievalError, match=r"v\.sqlite.*delete the file"):
        CachedEmbedder(HashingEmbedder(), path)
    whole = tmp_path / "w.sqlite"
    CachedEmbedder(HashingEmbedder(), whole).embed_documents(["x"])
    with sqlite3.connect(whole) as database:
        assert database.execute("SELECT count(*) FROM embeddings").fetchone() == (1,)


@pytest.fixture
def server():
    """A local server that speaks OpenAI's /embeddings, with failures on demand."""
    embedder = HashingEmbedder(dimension=16)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, dict(self.headers), body))
            status = failures.pop(0) if failures else 200
            vectors = embedder.embed_documents(body["input"]) * 3  # Not normalised.
            vectors = vectors[:, : body.get("dimensions", 16)]
            data = [{"index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
            answer = {"data": data[::-1]} if status == 200 else {"error": {"message": "too busy"}}
            if status == 299:
                status, answer = 200, {"data": data[1:]}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    seen, failures = [], []
    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.seen, service.failures = seen, failures
    service.url = f"http://127.0.0.1:{service.server_port}/v1"
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    yield service
    service.shutdown()
    service.server_close()
    thread.join()


def test_a_server_gives_the_vectors_in_order(server):
    embedder = ServerEmbedder(
        server.url + "/", "small", api_key="secret", batch_size=2, document_prompt="passage: "
    )
    vectors = embedder.embed_documents(["a", "b c", "d"])
    expected = HashingEmbedder(dimension=16).embed_documents(
        ["passage: a", "passage: b c", "passage: d"]
    )
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)
    assert [len(body["input"]) for _, _, body in server.seen] == [2, 1]
    path, headers, body = server.seen[0]
    assert (path, headers["Authorization"], body["model"]) == (
        "/v1/embeddings",
        "Bearer secret",
        "small",
    )
    assert embedder.dimension == 16
    assert embedder.embed_documents([]).shape == (0, 16)
    assert isinstance(embedder, Embedder)


def test_an_index_on_a_server(server):
    embedder = ServerEmbedder(server.url, "small", dimensions=8)
    assert (embedder.dimension, embedder.model_name) == (8, "small[:8]")
    retriever = FaissRetriever(embedder)
    retriever.add([*map(_document, ("cats sleep", "dogs walk"))])
    assert retriever.retrieve("cats sleep")[0].document.text == "cats sleep"


def _document(text):
    from agentkit import Document

    return Document(text=text, doc_id=text)


def test_passing_failures_are_tried_again(server):
    server.failures += [503, 429]
    assert ServerEmbedder(server.url, "small").embed_query("x").shape == (16,)
    assert len(server.seen) == 3


def test_failures_that_stay_are_explained(server):
    server.failures += [401]
    with pytest.raises(RetrievalError, match=r"answers 401: .*too busy"):
        ServerEmbedder(server.url, "small").embed_query("x")
    assert len(server.seen) == 1
    server.failures += [500] * 2
    with pytest.raises(RetrievalError, match="answers 500"):
        ServerEmbedder(server.url, "small", attempts=2).embed_query("x")
    server.failures += [299]
    with pytest.raises(RetrievalError, match=r"shape \(1, 16\) for 2 texts"):
        ServerEmbedder(server.url, "small", dimensions=None).embed_documents(["x", "y"])
    gone = ServerEmbedder("http://127.0.0.1:9/v1", "small", attempts=1)
    with pytest.raises(RetrievalError, match=r"cannot be reached.*is it running"):
        gone.embed_query("x")
    with pytest.raises(UserError, match="base_url"):
        ServerEmbedder("localhost", "small")


@pytest.mark.model
def test_shorter_vectors_of_the_embedded_model():
    whole = SentenceTransformerEmbedder()
    short = SentenceTransformerEmbedder("minilm", dimensions=64)
    assert short.model_name == f"{whole.model_name}[:64]"
    assert short.dimension == 64
    texts = ["a short text", "another one"]
    cut = whole.embed_documents(texts)[:, :64]
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    np.testing.assert_allclose(short.embed_documents(texts), cut, atol=1e-5)
    assert short.embed_query("a query").shape == (64,)
    with pytest.raises(UserError, match="dimensions"):
        SentenceTransformerEmbedder(dimensions=0)


def test_granite_models_have_short_names():
    assert _SHORT_NAMES["granite"].startswith("ibm-granite/granite-embedding-")
    embedder = SentenceTransformerEmbedder("granite-small")
    assert embedder.model_name == "ibm-granite/granite-embedding-small-english-r2"
