"""The remote engine: the embedded engine's methods, over gRPC. Imports no torch.

Start at ``engine.client.remote.connect``.
"""

from engine.client.channel import Tls
from engine.client.remote import RemoteCollection, RemoteEngine, connect

__all__ = ["RemoteCollection", "RemoteEngine", "Tls", "connect"]
