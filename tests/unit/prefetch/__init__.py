"""Tests of the program that fills a claim."""
