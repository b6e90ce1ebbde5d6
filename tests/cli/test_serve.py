from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from cli.conftest import Kedge
from kedge.core.errors import RepositoryFailed
from kedge.core.settings import CompressionLevel, FrontKind, FrontSettings, ServerSettings

NOT_YET = "not in this version of Kedge"


class App(ModuleType):
    """Stands for `kedge.app.server`: keeps what it was asked to serve."""

    def __init__(self) -> None:
        super().__init__("kedge.app.server")
        self.settings: ServerSettings | None = None
        self.exit_code = 0
        self.error: Exception | None = None

    def serve(self, settings: ServerSettings) -> int:
        self.settings = settings
        if self.error:
            raise self.error
        return self.exit_code


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    stand_in = App()
    monkeypatch.setitem(sys.modules, "kedge.app.server", stand_in)
    return stand_in


def test_without_options_the_settings_are_the_defaults(kedge: Kedge, app: App) -> None:
    assert kedge("serve", "a.yaml", "models").exit_code == 0
    assert app.settings == ServerSettings(targets=(Path("a.yaml"), Path("models")))


def test_every_option_arrives_in_the_settings(kedge: Kedge, app: App, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("infer:secret\n")
    result = kedge(
        "serve", "m", "--engine", "local", "--host", "0.0.0.0", "--grpc-port", 1,
        "--http-port", 0, "--metrics-port", 65535, "--model-control", "explicit",
        "--load-model", "a", "--load-model", "*", "--token-file", tokens,
        "--allow-model-code", "--state", tmp_path / "state", "--front", "grpcio",
        "--tls-cert", tokens, "--tls-key", tokens, "--tls-client-ca", tokens,
        "--grpc-max-connection-age", 2000, "--grpc-max-connection-age-grace", 300,
        "--grpc-infer-response-compression-level", "high", "--grpc-max-message-bytes", 400,
        "--grpc-keepalive-time", 500, "--grpc-keepalive-timeout", 600,
        "--model-cache-size", "1.5GiB",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert app.settings == ServerSettings(
        targets=(Path("m"),),
        model_cache_bytes_max=3 * 2**29,
        host="0.0.0.0",
        grpc_port=1,
        http_port=0,
        metrics_port=65535,
        model_control="explicit",
        load_models=("a", "*"),
        token_file=tokens,
        allow_model_code=True,
        state_dir=tmp_path / "state",
        front=FrontSettings(
            kind=FrontKind.GRPCIO,
            tls_cert=tokens,
            tls_key=tokens,
            tls_client_ca=tokens,
            connection_age_ms_max=2000,
            connection_age_grace_ms=300,
            compression=CompressionLevel.HIGH,
            message_bytes_max=400,
            keepalive_ms=500,
            keepalive_timeout_ms=600,
        ),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Missing argument 'TARGETS...'"),
        (("m", "--engine", "ray"), f"engine ray is {NOT_YET}"),
        (("m", "--address", "ray://x"), f"belongs to engine ray, which is {NOT_YET}"),
        (("--stop",), f"belongs to engine ray, which is {NOT_YET}"),
        (("m", "--tls-cert", "gone"), "'gone' does not exist"),
        (("m", "--tls-key", __file__), "--tls-cert and --tls-key need each other"),
        (("m", "--tls-client-ca", __file__), "--tls-client-ca needs --tls-cert and --tls-key"),
        (("m", "--grpc-max-connection-age-grace", "1"), "needs --grpc-max-connection-age"),
        (("m", "--grpc-max-message-bytes", "0"), "0 is not in the range"),
        (("m", "--grpc-infer-response-compression-level", "most"), "'most' is not one of"),
        (("m", "--front", "tonic"), "'tonic' is not one of"),
        (("m", "--load-model", "a"), "--load-model needs --model-control explicit"),
        (("m", "--grpc-port", "65536"), "65536 is not in the range"),
        (("m", "--model-control", "push"), "'push' is not one of"),
        (("m", "--token-file", "gone"), "does not exist"),
        (("m", "--grpc-prot", "1"), "No such option"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    kedge: Kedge, app: App, options: tuple[str, ...], message: str
) -> None:
    result = kedge("serve", *options)
    assert (result.exit_code, app.settings) == (2, None)
    assert message in result.stderr


def test_the_exit_code_is_the_servers(kedge: Kedge, app: App) -> None:
    app.exit_code = 1
    assert kedge("serve", "m").exit_code == 1


@pytest.mark.parametrize("error", [RepositoryFailed("broken"), ValueError("broken"), OSError(98)])
def test_what_keeps_it_from_serving_is_told_without_a_traceback(
    kedge: Kedge, app: App, error: Exception
) -> None:
    app.error = error
    result = kedge("serve", "m")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {error}\n"
