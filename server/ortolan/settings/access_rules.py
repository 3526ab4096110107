"""What settings of who may ask must obey, so that no key counts less than its operator believes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortolan.settings.chosen import Settings


def refuse_wrong_access(settings: "Settings") -> None:
    """Raises ValueError where administration is opened to everybody, and others are asked who they are."""
    s = settings
    asking = {
        "--api-keys-file": s.api_keys_file,
        "--jwt-issuer": s.jwt_issuer,
        "--tls-client-ca": s.tls_client_ca,
        "--grpc-use-ssl-mutual": s.grpc_use_ssl_mutual,
    }
    flag = next((flag for flag, value in asking.items() if value), None)
    if s.admin_operations == "open" and flag is not None:
        raise ValueError(
            f"--admin-operations=open excludes {flag}: where clients are asked who they are, administration is for "
            "those who have the scope admin; leave --admin-operations out"
        )
