"""What does ``engine serve`` do?"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.settings import common_options, current_settings, generator_option

if TYPE_CHECKING:
    from engine.server import Server

KEYS_VARIABLE = "LANDMARK_API_KEYS"

EXAMPLES = """\b
Examples:
  engine serve
  engine serve --data ./index --address 127.0.0.1:6000 --metrics-port 9090
  engine serve --address 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem --api-keys keys.txt
  engine serve --collection papers --migrate-to ./tuned
  engine serve --processes 4
  engine query "how does it work" --server localhost:50051
"""

PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("serve", short_help="Serve the index over gRPC.", epilog=EXAMPLES)
@click.option(
    "--address", metavar="HOST:PORT", default="127.0.0.1:50051", show_default=True, help="Port 0: any free one."
)
@click.option(
    "--api-keys",
    type=PEM,
    metavar="FILE",
    help=f"Lines of ROLE:KEY; read, write, admin.  [env: {KEYS_VARIABLE}, by commas]",
)
@click.option("--tls-cert", type=PEM, metavar="FILE", help="Certificate chain (PEM).")
@click.option("--tls-key", type=PEM, metavar="FILE", help="Private key (PEM).")
@click.option(
    "--tls-client-ca", type=PEM, metavar="FILE", help="Ask clients for a certificate signed by this authority."
)
@click.option("--insecure", is_flag=True, help="Allow an address beyond this machine without TLS or keys.")
@click.option("--reflection", is_flag=True, help="Offer the gRPC reflection service.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Prometheus metrics on 127.0.0.1:PORT.")
@click.option("--max-message-mb", type=click.IntRange(min=1), default=16, show_default=True, help="Largest request.")
@click.option(
    "--grace", "grace_s", type=click.FloatRange(min=0), default=30, show_default=True, help="Seconds to drain."
)
@click.option(
    "--migrate-to",
    metavar="MODEL",
    help="Embed --collection with this model in the background; the old vectors serve until that is done.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that answer queries, one a core or fewer; each loads the model. One of them writes.",
)
@click.option("--reranker", metavar="NAME", help="A cross-encoder or Qwen3-Reranker for queries that ask for one.")
@click.option(
    "--log-level", type=click.Choice(("debug", "info", "warning", "error")), default="info", show_default=True
)
@generator_option
@common_options
def serve_command(
    address: str,
    api_keys: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    insecure: bool,
    reflection: bool,
    metrics_port: int | None,
    max_message_mb: int,
    grace_s: float,
    migrate_to: str | None,
    processes: int,
    reranker: str | None,
    log_level: str,
) -> None:
    """Serve the data folder over gRPC until Ctrl-C or SIGTERM, then finish the calls in flight and stop.

    The address is printed on stdout when the server accepts calls. Beyond this machine the server asks for TLS and API
    keys. This process owns the data folder; other commands reach it with --server.
    """
    from cli.session import named_model, open_data
    from engine.server import ServerConfig
    from engine.server.processes import serve_processes

    settings = current_settings()
    if settings.server:
        raise click.UsageError("`engine serve` is the server; leave --server out.")
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = ServerConfig(
        address=address,
        api_keys_file=api_keys,
        api_keys=tuple(key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        insecure=insecure,
        reflection=reflection,
        metrics_port=metrics_port,
        max_message_mb=max_message_mb,
        grace_s=grace_s,
    )
    announce = _announce_json if settings.json else _announce
    if migrate_to is None:
        with open_data(settings, command="serve", create=True, reranker=reranker) as engine:
            serve_processes(engine, config, processes, on_ready=announce)
        return
    from engine.migration import migrating

    model = named_model(migrate_to)
    if model is None:
        raise click.UsageError("--migrate-to needs a model; there is nothing to embed with otherwise.")
    # `serve` closes the engine, which stops a migration that is not done; the next start resumes it.
    with (
        open_data(settings, command="serve", reranker=reranker) as local,
        migrating(local, settings.collection, model),
    ):
        serve_processes(local, config, processes, on_ready=announce)


def _announce(server: Server) -> None:
    click.echo(f"Landmark listens on {server.address}. Ctrl-C stops it.")


def _announce_json(server: Server) -> None:
    from cli.output import print_json

    print_json({"address": server.address, "metrics_port": server.metrics_port})
