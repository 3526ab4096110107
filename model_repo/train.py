"""Trains every model of this repository from data that comes with its requirements, and checks it in ONNX Runtime.

    pip install -r model_repo/requirements.txt
    python model_repo/train.py              # writes over the models beside this file
    python model_repo/train.py --into DIR   # writes them elsewhere, to compare

It writes ``<model>/<version>/model.onnx`` and the label files; every ``config.pbtxt`` is written by hand.
"""

import argparse
import ast
import io
import os
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before onnxruntime is imported: from 1.29 on, importing it starts an uploader thread otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 0
# Old enough for every ONNX Runtime since 1.13, so that the models load wherever the server does.
OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8
# How far ONNX Runtime's probabilities may be from the trainer's; both compute in different orders, one in float64.
TOLERANCE = 1e-5

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model version, with the held-out rows that measure it and what its trainer predicts for them."""

    name: str
    version: int
    graph: onnx.ModelProto
    inputs: Any
    """Held-out rows [rows, …] as the graph takes them: float32, or objects that are ``str``."""
    truth: Any
    """The held-out rows' classes [rows], in the same form as ``classes``."""
    classes: Any
    """What each column of the probabilities stands for [classes]."""
    probabilities: Any
    """The trainer's own probabilities for the held-out rows [rows, classes]."""
    label_names: tuple[str, ...] = ()
    """The lines of the label file; none for a model without one."""

    @property
    def predictions(self) -> Any:
        return self.classes[self.probabilities.argmax(axis=1)]

    @property
    def accuracy(self) -> float:
        return float((self.predictions == self.truth).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the models of this repository and check them.")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="the model repository to write")
    repository = parser.parse_args().into
    for train in (train_digits, train_iris, train_language, train_wine_1, train_wine_2):
        model = train()
        path = write(model, repository)
        furthest = check(model, path)
        print(
            f"{model.name}/{model.version}: {model.accuracy:.2%} of {len(model.truth)} held-out rows right; "
            f"ONNX Runtime agrees on every row (probabilities within {furthest:.0e}); {path.stat().st_size} bytes"
        )


def write(model: TrainedModel, repository: Path) -> Path:
    """Write the graph and its label file into the repository's layout; the path of the graph."""
    directory = repository / model.name / str(model.version)
    directory.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(model.graph)
    path = directory / "model.onnx"
    path.write_bytes(model.graph.SerializeToString(deterministic=True))
    if model.label_names:
        labels = directory.parent / f"{model.name}_labels.txt"
        labels.write_text("".join(f"{name}\n" for name in model.label_names), encoding="utf-8")
    return path


def check(model: TrainedModel, path: Path) -> float:
    """The largest difference between ONNX Runtime's probabilities and the trainer's, over all held-out rows.

    Raises SystemExit where it passes the tolerance or a predicted class differs.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: model.inputs})
    probabilities = outputs[-1]
    if isinstance(probabilities, list):  # ZipMap gives one mapping from class to probability for each row.
        probabilities = np.array([[row[name] for name in model.classes] for row in probabilities])
    labels = outputs[0] if len(outputs) == 2 else model.classes[probabilities.argmax(axis=1)]
    differing = int((labels != model.predictions).sum())
    furthest = float(np.abs(probabilities - model.probabilities).max())
    # Written so that a NaN fails too.
    if differing or not furthest <= TOLERANCE:
        raise SystemExit(f"{model.name}: {differing} labels differ, probabilities differ by up to {furthest}")
    return furthest


# digits: a convolutional network, learned with PyTorch


def train_digits() -> TrainedModel:
    """Handwritten digits, 8 by 8 pixels of 0 to 16, one image [1, 8, 8] a row."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # The order of summation depends on the number of threads, and the weights on that order.
    data = load_digits()
    images = data.images.astype(np.float32)[:, np.newaxis]
    train_x, test_x, train_y, test_y = _split(images, data.target, test_size=0.25)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, kernel_size=3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, kernel_size=3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 4 * 4, 10),
    )
    _fit(network, torch.from_numpy(train_x / 16), torch.from_numpy(train_y), epochs=30)
    with torch.no_grad():
        probabilities = network(torch.from_numpy(test_x / 16)).softmax(dim=1).numpy()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    graph = _digits_graph(weights)
    return TrainedModel("digits", 1, graph, test_x, test_y, np.arange(10), probabilities, DIGIT_NAMES)


def _fit(network: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()


def _digits_graph(weights: dict[str, Any]) -> onnx.ModelProto:
    """The same network in ONNX, from raw pixels to probabilities. ``weights`` are named as in the Sequential."""
    constants = {**weights, "brightest": np.array(16, dtype=np.float32)}
    convolution: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Div", ["image", "brightest"], ["pixels"]),
        helper.make_node("Conv", ["pixels", "0.weight", "0.bias"], ["strokes"], **convolution),
        helper.make_node("Relu", ["strokes"], ["strokes_seen"]),
        helper.make_node("Conv", ["strokes_seen", "2.weight", "2.bias"], ["shapes"], **convolution),
        helper.make_node("Relu", ["shapes"], ["shapes_seen"]),
        helper.make_node("MaxPool", ["shapes_seen"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "6.weight", "6.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSETS[""])], ir_version=IR_VERSION)


# iris and wine: measurements, learned with scikit-learn


def train_iris() -> TrainedModel:
    """Iris flowers by four lengths in cm. Its scores stay the ZipMap that skl2onnx makes unless told otherwise."""
    data = load_iris()
    species = data.target_names.astype(object)[data.target]
    train_x, test_x, train_y, test_y = _split(data.data.astype(np.float32), species, test_size=0.5)
    classifier = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    graph = _converted(classifier, "iris", "features", FloatTensorType([None, 4]), options=None)
    return TrainedModel("iris", 1, graph, test_x, test_y, classifier.classes_, classifier.predict_proba(test_x))


def train_wine_1() -> TrainedModel:
    """Version 1 knows the wines by a logistic regression."""
    return _train_wine(1, make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)))


def train_wine_2() -> TrainedModel:
    """Version 2 knows them by a random forest; inputs and outputs are those of version 1."""
    return _train_wine(2, RandomForestClassifier(n_estimators=100, random_state=SEED))


def _train_wine(version: int, classifier: Any) -> TrainedModel:
    """Wines of three growers by thirteen chemical measurements."""
    data = load_wine()
    train_x, test_x, train_y, test_y = _split(data.data.astype(np.float32), data.target, test_size=0.5)
    classifier.fit(train_x, train_y)
    graph = _converted(classifier, "wine", "features", FloatTensorType([None, 13]), options={"zipmap": False})
    probabilities = classifier.predict_proba(test_x)
    names = tuple(str(name) for name in data.target_names)
    return TrainedModel("wine", version, graph, test_x, test_y, classifier.classes_, probabilities, names)


def _split(inputs: Any, targets: Any, test_size: float) -> Any:
    """Training inputs, held-out inputs, training targets, held-out targets; every class in both in its proportion."""
    return train_test_split(inputs, targets, test_size=test_size, random_state=SEED, stratify=targets)


def _converted(
    classifier: Any, name: str, input_name: str, input_type: Any, options: dict[str, Any] | None
) -> onnx.ModelProto:
    """What scikit-learn learned, as a graph whose batch dimension is called "batch"."""
    model: onnx.ModelProto = to_onnx(
        classifier, initial_types=[(input_name, input_type)], options=options, target_opset=OPSETS, name=name
    )
    model.ir_version = IR_VERSION
    # skl2onnx can list an operator set twice.
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items()))
    for tensor in (*model.graph.input, *model.graph.output):
        if tensor.type.HasField("tensor_type"):
            tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


# language: is this line C, English or Python? Learned with scikit-learn from what Python itself comes with

# A word, one figure of a number, or one sign. Python's ``re`` and ONNX Runtime's RE2 must cut alike, so the classes
# are spelt out: \w and \s mean Unicode to the one and ASCII to the other.
TOKEN = r"[A-Za-z_]+|[0-9]|[^A-Za-z0-9_ \t]"
# Lower-casing would put a StringNormalizer into the graph, which wants a locale that slim containers lack.
CUTTING: dict[str, Any] = {"token_pattern": TOKEN, "lowercase": False, "ngram_range": (1, 2)}
PROSE = re.compile(r"[A-Z(]?[a-z]+( [A-Za-z',.()-]+){3,}")
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
SHORTEST_LINE = 8


def train_language() -> TrainedModel:
    """One line of text a row [1]; the graph gives the class's name and the probability of each class."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    headers = [header for folder in _header_folders() for header in sorted(folder.rglob("*.h"))]
    corpora = {
        "c": _lines_by_file(headers, _c_lines),
        "english": _lines_by_file(library, _english_lines),
        "python": _lines_by_file(library, _python_lines),
    }
    train_x, train_y = _drawn({name: corpus.learned for name, corpus in corpora.items()}, count=4000)
    test_x, test_y = _drawn({name: corpus.held_out for name, corpus in corpora.items()}, count=1500)
    classifier = make_pipeline(
        TfidfVectorizer(vocabulary=_vocabulary(train_x), **CUTTING), LogisticRegression(C=10, max_iter=1000)
    ).fit(train_x, train_y)
    graph = _converted(classifier, "language", "text", StringTensorType([None, 1]), options={"zipmap": False})
    rows = np.array(test_x, dtype=object)[:, np.newaxis]
    classes = classifier.classes_.astype(object)
    probabilities = classifier.predict_proba(test_x)
    return TrainedModel("language", 1, graph, rows, test_y, classes, probabilities, tuple(classes))


def _vocabulary(lines: list[str]) -> list[str]:
    """The commonest tokens and pairs of tokens, without pairs of which one token is not there by itself.

    skl2onnx takes such a pair for one long token, which the graph would then never find.
    """
    commonest = TfidfVectorizer(max_features=3000, **CUTTING).fit(lines).get_feature_names_out()
    known = set(commonest)
    return [entry for entry in commonest if known.issuperset(entry.split(" "))]


def _header_folders() -> list[Path]:
    python, numpy = Path(sysconfig.get_path("include")), Path(np.get_include())
    if not (python / "Python.h").exists():
        raise SystemExit("language learns C from Python's headers: install them (python3-dev on Debian)")
    return [python, numpy]


@dataclass(frozen=True)
class Corpus:
    """The distinct lines of some files: those to learn from, and those of every fourth file, which are held out."""

    learned: list[str]
    held_out: list[str]


def _lines_by_file(files: list[Path], lines_of: Callable[[str], Iterable[str]]) -> Corpus:
    seen: set[str] = set()
    corpus = Corpus([], [])
    for number, file in enumerate(files):
        part = corpus.held_out if number % 4 == 3 else corpus.learned
        for line in map(str.strip, lines_of(file.read_text(encoding="utf-8", errors="ignore"))):
            if len(line) >= SHORTEST_LINE and line not in seen:
                seen.add(line)
                part.append(line)
    return corpus


def _drawn(lines_of: dict[str, list[str]], count: int) -> tuple[list[str], Any]:
    """Up to ``count`` random lines of each class, and for each line its class."""
    drawn = [
        (lines[index], name)
        for name, lines in lines_of.items()
        for index in np.random.default_rng(SEED).permutation(len(lines))[:count]
    ]
    return [line for line, _ in drawn], np.array([name for _, name in drawn], dtype=object)


def _c_lines(source: str) -> list[str]:
    return C_COMMENT.sub("", source).splitlines()


def _english_lines(source: str) -> list[str]:
    """The lines of the docstrings that read as a sentence: at least four words and nothing that looks like code."""
    lines = (line.strip() for docstring in _docstrings(source) for line in str(docstring.value).splitlines())
    return [line for line in lines if PROSE.fullmatch(line)]


def _python_lines(source: str) -> list[str]:
    """The lines of the code alone, without docstrings and comments, which are English."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    dropped = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    for docstring in _docstrings(source):
        dropped.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return [line for number, line in enumerate(source.splitlines(), start=1) if number not in dropped]


def _docstrings(source: str) -> Iterator[ast.Constant]:
    for node in ast.walk(ast.parse(source)):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
                yield docstring


if __name__ == "__main__":
    main()
