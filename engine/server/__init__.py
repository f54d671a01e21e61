"""The gRPC rim: everything between a socket and the engine's Python surface.

Start at ``engine.server.server``: it builds the parts and owns their lives. One call: ``auth`` lets it in, ``servicer``
finds a pool, ``calls`` reads the request, asks the engine and writes the answer, ``status`` turns an error into a
status. ``processes`` runs several of them on one port, of which all but one ``forwarding`` what they cannot answer.
"""

from engine.server.config import ServerConfig
from engine.server.server import Server, serve

__all__ = ["Server", "ServerConfig", "serve"]
