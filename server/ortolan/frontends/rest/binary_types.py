"""Content types of bodies with binary tensors, for platforms that let the content type through and no other header.

``application/vnd.NAME.binary+json;json-header-size=N``: N is what Inference-Header-Content-Length says elsewhere. Pure.
"""

from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.answer import Answer

HEADER_LENGTH = b"inference-header-content-length"
"""The protocol's own header, in lower case."""

_PARAMETER = "json-header-size"


class BinaryType:
    """The content type of one platform."""

    def __init__(self, name: str) -> None:
        self.name = name

    def header_length(self, content_type: str) -> str | None:
        """How long the JSON is, as text, in a body of this ``content_type``; None for any other type.

        Raises InvalidArgument where the type is this one and does not say how long.
        """
        media_type, *parameters = (part.strip() for part in content_type.split(";"))
        if media_type.lower() != self.name:
            return None
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == _PARAMETER:
                return value.strip().strip('"')
        raise InvalidArgument(
            f"the content type {self.name} must say how many bytes of the body are JSON: {self.name};{_PARAMETER}=N"
        )

    def told(self, answer: Answer) -> Answer:
        """``answer`` with this type, where binary parts follow its JSON."""
        length = dict(answer.headers).get(HEADER_LENGTH)
        if length is None:
            return answer
        own = (b"content-type", b"%b;%b=%b" % (self.name.encode(), _PARAMETER.encode(), length))
        return answer._replace(headers=[own if name == b"content-type" else (name, v) for name, v in answer.headers])


SAGEMAKER = BinaryType("application/vnd.sagemaker-triton.binary+json")
VERTEX_AI = BinaryType("application/vnd.vertex-ai-triton.binary+json")
