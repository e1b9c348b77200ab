"""TLS for the gRPC port, with certificates that are read again when their files change."""

import logging
import os
import ssl
from pathlib import Path

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
        self._refused: list[tuple[int, int]] = []
        try:
            self._stamps = self._read_stamps()
            self._context = self._read()
        except OSError as error:
            raise StartError(f"TLS: {_said(error)}") from error

    def context(self) -> ssl.SSLContext:
        """What the next connection is made with; the former where new files cannot be read."""
        stamps = self._read_stamps()
        if stamps == self._stamps or stamps == self._refused:
            return self._context
        try:
            self._context = self._read()
        except OSError as error:
            logger.error("TLS: %s; the former ones stay", _said(error))
            self._refused = stamps
        else:
            self._stamps = stamps
            logger.info("TLS: the certificates were read again")
        return self._context

    def _read_stamps(self) -> list[tuple[int, int]]:
        """Change when a file does; a file that is not there has one too."""
        return [
            (status.st_mtime_ns, status.st_ino) if (status := _status(file)) else (0, 0)
            for file in self._files
        ]

    def _read(self) -> ssl.SSLContext:
        certificate, key, *client_ca = self._files
        for file in self._files:
            file.read_bytes()  # an error of ssl's own does not name the file
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(certificate, key, password="")
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca[0])
        return context


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
