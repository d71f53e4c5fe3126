"""Servers for hostile cases: those of the journeys."""

from tests.journeys.conftest import StartServer, server, shared_server, start_server

__all__ = ["StartServer", "server", "shared_server", "start_server"]
