"""Crash proof: a whole deployment under load, in which every part is killed, frozen, cut off or filled up."""
