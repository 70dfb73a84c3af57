"""Tests of the framers."""
