"""Judgement: from what was observed to what shall be done. Pure."""
