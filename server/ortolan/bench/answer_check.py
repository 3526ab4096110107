"""Whether answers are right: all by their length, a sample of them number by number."""

from ortolan.bench.answer_tensors import same_tensors
from ortolan.bench.load import PreparedRequest

WRONG = "wrong answer"
_EVERY = 64


class AnswerCheck:
    """Judges the answers to some requests; ``compared`` counts those whose numbers were looked at."""

    def __init__(self) -> None:
        self.compared = 0
        self._seen = 0

    def failure(self, request: PreparedRequest, body: bytes) -> str:
        """What is wrong with ``body`` as the answer to ``request``; "" for nothing."""
        right = request.answer
        if right is None or body == right:
            return ""
        if request.same_length and len(body) != len(right):
            return WRONG
        self._seen += 1
        if self._seen % _EVERY != 1:
            return ""
        self.compared += 1
        # Batches of other sizes may round otherwise.
        return "" if same_tensors(request.form, body, right) else WRONG
