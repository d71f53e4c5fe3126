"""Real servers for tests (PostgreSQL, Redis, SeaweedFS), each on a free port and in a folder of its own."""
