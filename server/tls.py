"""TLS for the gRPC port, with certificates that are read again when their files change."""

import logging
import os
import ssl
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
        StartError: a file cannot be read, or is no certificate with its key.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._files = (certificate, key, *((client_ca,) if client_ca else ()))
        self._is_mutual = client_ca is not None
        self._refused: list[tuple[int, int]] = []
        try:
            self._stamps = self._read_stamps()
            self._configuration = self._read()
        except OSError as error:
            raise StartError(f"TLS: {_said(error)}") from error

    def credentials(self) -> grpc.ServerCredentials:
        """What the port is opened with; grpc asks for the certificates at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetch,  # type: ignore[arg-type]  # the stubs do not know that None is allowed
            require_client_authentication=self._is_mutual,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates; None while the files are what they were, or cannot be read."""
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return None
        try:
            self._configuration = self._read()
        except OSError as error:
            if stamps != self._refused:
                logger.error("TLS: %s; the former ones stay", _said(error))
                self._refused = stamps
            return None
        self._stamps = stamps
        logger.info("TLS: the certificates were read again")
        return self._configuration

    def _read_stamps(self) -> list[tuple[int, int]]:
        """Change when a file does; a file that is not there has one too."""
        return [
            (status.st_mtime_ns, status.st_ino) if (status := _status(file)) else (0, 0)
            for file in self._files
        ]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *client_ca = [file.read_bytes() for file in self._files]
        # gRPC takes whatever it is given, and refuses every handshake after it.
        check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        check.load_cert_chain(self._files[0], self._files[1], password="")
        if client_ca:
            check.load_verify_locations(self._files[2])
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=client_ca[0] if client_ca else None
        )


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _said(error: OSError) -> str:
    """What is wrong, with the file where it is known; an ssl.SSLError knows none."""
    what = error.strerror or str(error)
    return (
        f"{error.filename}: {what}" if error.filename else f"not a certificate and its key: {what}"
    )
