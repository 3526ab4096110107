"""Which platform's contract a server is under."""

from ortolan.hosting.azureml import AZUREML
from ortolan.hosting.contract import IMAGE_MODELS, Contract, Hosting, Surroundings
from ortolan.hosting.knative import KNATIVE
from ortolan.hosting.kserve import KSERVE
from ortolan.hosting.sagemaker import SAGEMAKER
from ortolan.hosting.vertex import VERTEX

AUTOMATIC, NONE = "auto", "none"
"""What ``--hosting`` says beside the name of a contract."""

# The first whose signs are there counts. Whoever runs on another one stands before it, as KServe does on Knative.
CONTRACTS: tuple[Contract, ...] = (AZUREML, VERTEX, KSERVE, KNATIVE, SAGEMAKER)


def hosting_of(surroundings: Surroundings, choice: str = AUTOMATIC) -> Hosting | None:
    """What the platform says that ``choice`` (``--hosting``) names, or whose signs are there; None without any.

    A choice that is none comes to None; Settings refuses it. Raises StartupError for a variable of the platform that
    has a value that cannot be meant.
    """
    for contract in CONTRACTS:
        if choice == contract.name or (choice == AUTOMATIC and contract.is_meant(surroundings)):
            return contract.hosting(surroundings)
    if choice not in (AUTOMATIC, NONE) or surroundings.models_are_told:
        return None
    return Hosting("", model_path=IMAGE_MODELS) if surroundings.files.is_directory(IMAGE_MODELS) else None
