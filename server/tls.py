"""TLS for the gRPC port, with certificates that are read again when their files change."""

import logging
from pathlib import Path

import grpc

from convlens.server.errors import StartError

logger = logging.getLogger(__name__)


class Certificates:
    """The files of the server's certificate, its key, and of those who may sign its clients'.

    Args:
        certificate: PEM, the server's own first.
        key: PEM.
        client_ca: PEM; where given, clients must show a certificate that it signed.

    Raises:
        StartError: a file cannot be read.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._files = (certificate, key, *((client_ca,) if client_ca else ()))
        self._is_mutual = client_ca is not None
        try:
            self._stamps = self._read_stamps()
            self._configuration = self._read()
        except OSError as error:
            raise StartError(f"TLS: {error.filename}: {error.strerror}") from error

    def credentials(self) -> grpc.ServerCredentials:
        """What the port is opened with; grpc asks for the certificates at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetch,  # type: ignore[arg-type]  # the stubs do not know that None is allowed
            require_client_authentication=self._is_mutual,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates; None while the files are what they were, or cannot be read."""
        try:
            stamps = self._read_stamps()
            if stamps == self._stamps:
                return None
            self._configuration = self._read()
        except OSError as error:
            logger.error("TLS: %s: %s; the former ones stay", error.filename, error.strerror)
            return None
        self._stamps = stamps
        logger.info("TLS: the certificates were read again")
        return self._configuration

    def _read_stamps(self) -> list[tuple[int, int]]:
        return [(file.stat().st_mtime_ns, file.stat().st_ino) for file in self._files]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *client_ca = [file.read_bytes() for file in self._files]
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=client_ca[0] if client_ca else None
        )
