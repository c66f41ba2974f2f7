"""How to reach Kafka with TLS and SASL: one set of settings for kafka-python, aiokafka and Faust."""

from __future__ import annotations

import ssl
from typing import Any

from deploy.settings import KafkaSettings, SettingsError


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options that kafka-python and aiokafka share, beside the addresses.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    if settings.security_protocol == "PLAINTEXT":
        return {}
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls(settings)
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    return options


def faust_credentials(options: dict[str, Any]) -> Any:
    """Return the same as Faust's credentials, None for none."""
    import faust

    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(f"kafka.ssl_*: the certificates cannot be used: {exc}") from exc
    return context
