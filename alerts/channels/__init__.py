"""Channels: one small file for each format in which receivers take alerts."""
