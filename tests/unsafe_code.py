"""What source code may not have where anyone's bytes are read: ways to run what was only to be read.

Names are looked at as they are written; nothing is imported or run. ``getattr(os, "sys" + "tem")`` would go unseen, and
is not what this is for: it is to keep what is easily written, and easily overlooked in a review, out of the package.
"""

import ast
from collections.abc import Iterator

LOADERS = {
    **dict.fromkeys(("pickle", "_pickle", "dill", "cloudpickle", "joblib", "jsonpickle"), "runs what is in its input"),
    **dict.fromkeys(("marshal", "shelve", "dbm"), "is not made for input of others"),
    **dict.fromkeys(("yaml", "ruamel"), "has tags that make objects"),
    **dict.fromkeys(("xml", "lxml", "xmlrpc"), "has entities that grow and fetch"),
    **dict.fromkeys(("tarfile", "zipfile"), "names its own paths"),
    **dict.fromkeys(("code", "codeop", "imp", "runpy"), "runs code"),
    "multiprocessing": "sends pickles between its processes",
}
"""Modules that may not be imported, and why."""
RUNNERS = frozenset({"eval", "exec", "compile", "__import__"})
"""Built-in functions that may not be named."""
FUNCTIONS = frozenset(
    {
        *(f"os.{name}" for name in ("system", "popen", "spawnl", "spawnv", "spawnlp", "spawnvp", "tempnam")),
        *(f"{numpy}.{name}" for numpy in ("np", "numpy") for name in ("load", "loadtxt", "genfromtxt")),
        *(f"ssl.{name}" for name in ("_create_unverified_context", "_create_stdlib_context", "CERT_NONE")),
        *(f"subprocess.{name}" for name in ("getoutput", "getstatusoutput")),
        "tempfile.mktemp",
        "shutil.unpack_archive",
        "torch.load",
        "asyncio.create_subprocess_shell",
    }
)
"""Functions of modules that may not be named."""
KEYWORDS = {"shell": True, "allow_pickle": True, "verify": False, "check_hostname": False}
"""Arguments and attributes that may not have this value."""


def found_in(source: str) -> Iterator[str]:
    """What ``source`` has of all that, a line each, with its place."""
    for node in ast.walk(ast.parse(source)):
        for what in _in_node(node):
            yield f"line {node.lineno}: {what}"  # type: ignore[attr-defined]


def _in_node(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _in_import(node)
    elif isinstance(node, ast.Name):
        yield from _in_name(node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        yield from _in_name(f"{node.value.id}.{node.attr}")
    elif isinstance(node, ast.Call):
        yield from _in_call(node)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        yield from _in_value(node.targets[0].attr, node.value)


def _in_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (_loader(each.name) for each in node.names if _root(each.name) in LOADERS)
    elif node.module and not node.level:
        if _root(node.module) in LOADERS:
            yield _loader(node.module)
        for each in node.names:
            yield from _in_name(f"{node.module}.{each.name}")


def _in_name(name: str) -> Iterator[str]:
    if name.removeprefix("builtins.") in RUNNERS or name in FUNCTIONS:
        yield name


def _in_call(node: ast.Call) -> Iterator[str]:
    for each in node.keywords:
        yield from _in_value(each.arg, each.value)
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called == "import_module" and not (node.args and isinstance(node.args[0], ast.Constant)):
        yield "import_module of a name that is not written there"


def _in_value(name: str | None, value: ast.expr) -> Iterator[str]:
    if name in KEYWORDS and isinstance(value, ast.Constant) and value.value is KEYWORDS[name]:
        yield f"{name}={value.value}"


def _loader(module: str) -> str:
    return f"import of {module}, which {LOADERS[_root(module)]}"


def _root(module: str) -> str:
    return module.partition(".")[0]
